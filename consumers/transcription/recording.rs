//! Transcribes a whole recording, without Kafka.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::Shared;
use futures::stream::{FuturesOrdered, StreamExt};
use producers::audio::{self, Audio, AudioError};
use schemas::{Language, Speaker};
use tokio::sync::oneshot;

use super::{
    Cut, Cutter, IDENTIFIABLE_MS, LanguageChoice, Settings, Spelling, TranscribeError, Transcriber,
    Vad, Words, mel,
};
use crate::onnx::ModelError;

/// One speaker's words between pauses.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Line {
    /// Audio channel, from 0.
    pub channel: usize,
    /// Who spoke: the rep on the first of two channels; on a single one, the customer.
    pub speaker: Speaker,
    /// Where the first word begins, in milliseconds.
    pub start_ms: i64,
    /// Where the last word ends, in milliseconds.
    pub end_ms: i64,
    /// The language spoken.
    pub language: Language,
    /// The words.
    pub text: String,
}

/// Why a recording cannot be transcribed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Of the file.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// Of voice activity.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Of Whisper.
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
}

/// The models, opened once for any number of recordings.
pub struct Recorder {
    settings: Settings,
    spelling: Arc<Spelling>,
    vad: Vad,
    transcriber: Transcriber,
}

/// The language of a stretch of speech, as soon as it is known.
type Told = Shared<oneshot::Receiver<Language>>;

impl Recorder {
    /// Opens the models of the cache, for recordings whose words are spelled like this.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn open(
        cache: &Path,
        settings: Settings,
        spelling: Spelling,
    ) -> Result<Self, RecordingError> {
        let vad = Vad::open(cache)?;
        let transcriber = Transcriber::open(cache, &settings.model, settings.workers)?;
        Ok(Self {
            settings,
            spelling: Arc::new(spelling),
            vad,
            transcriber,
        })
    }

    /// Transcribes the recording, in this language or, without one, in the languages it hears.
    /// Each line goes to `sink` as soon as it and those that ended before it are known.
    ///
    /// # Errors
    /// A model failed, or the recording's rate cannot be heard.
    pub async fn transcribe(
        &mut self,
        recording: &Audio,
        language: Option<Language>,
        mut sink: impl FnMut(Line),
    ) -> Result<(), RecordingError> {
        let rate = heard_rate(recording.rate);
        let channels: Vec<Vec<f32>> = recording
            .channels
            .iter()
            .map(|samples| audio::resample(samples, recording.rate, rate))
            .collect::<Result<_, _>>()?;
        let Self {
            settings,
            spelling,
            vad,
            transcriber,
        } = self;
        let scribe = Scribe {
            settings,
            spelling,
            transcriber,
            rate,
            channels: channels.len(),
        };
        let mut cutters = vec![Cutter::new(rate, settings.cutter); channels.len()];
        let mut told: Vec<Option<Told>> = vec![None; channels.len()];
        let mut lines = FuturesOrdered::new();
        // Voice activity stays a little ahead of Whisper, so that lines come out as they are found.
        const AHEAD: usize = 16;
        let block = rate as usize;
        let blocks = channels.first().map_or(0, Vec::len).div_ceil(block);
        for number in 0..=blocks {
            let mut cuts = Vec::new();
            for (channel, (cutter, samples)) in cutters.iter_mut().zip(&channels).enumerate() {
                let found = if number == blocks {
                    cutter.finish().into_iter().collect()
                } else {
                    let end = samples.len().min((number + 1) * block);
                    cutter.push(vad, &samples[number * block..end])?
                };
                cuts.extend(found.into_iter().map(|cut| (channel, cut)));
            }
            cuts.sort_by_key(|(_, cut)| cut.end_ms);
            for (channel, cut) in cuts {
                let choice = choose(channel, &cut, language, &mut told);
                lines.push_back(scribe.line(channel, cut, choice));
            }
            while lines.len() > AHEAD
                && let Some(line) = lines.next().await
            {
                line?.map(&mut sink);
            }
        }
        while let Some(line) = lines.next().await {
            line?.map(&mut sink);
        }
        Ok(())
    }
}

/// Writes utterances of one recording down.
struct Scribe<'a> {
    settings: &'a Settings,
    spelling: &'a Arc<Spelling>,
    transcriber: &'a Transcriber,
    rate: u32,
    channels: usize,
}

impl Scribe<'_> {
    /// The line of an utterance, if it holds words.
    async fn line(
        &self,
        channel: usize,
        cut: Cut,
        choice: Choice,
    ) -> Result<Option<Line>, RecordingError> {
        let samples = audio::resample(&cut.samples, self.rate, mel::RATE)?;
        let transcription = self.heard(samples, choice).await?;
        let speaker = if self.channels == 2 && channel == 0 {
            Speaker::Rep
        } else {
            Speaker::Customer
        };
        let line = Line {
            channel,
            speaker,
            start_ms: cut.start_ms,
            end_ms: cut.end_ms,
            language: transcription.language,
            text: transcription.text,
        };
        Ok(Some(line).filter(|line| !line.text.is_empty()))
    }

    async fn heard(&self, samples: Vec<f32>, choice: Choice) -> Result<Words, TranscribeError> {
        let any = || LanguageChoice::Among(self.settings.languages.clone());
        let (choice, tell) = match choice {
            Choice::Given(language) => (LanguageChoice::Known(language), None),
            Choice::Own(tell) => (any(), Some(tell)),
            Choice::Earlier(told) => (
                told.await.map_or_else(|_| any(), LanguageChoice::Known),
                None,
            ),
            Choice::Unknown => (any(), None),
        };
        let transcription = self
            .transcriber
            .transcribe(samples, choice, Arc::clone(self.spelling))
            .await?;
        if let Some(tell) = tell {
            // Nobody may have waited for it.
            let _ = tell.send(transcription.language);
        }
        Ok(transcription)
    }
}

/// Where an utterance's language comes from.
enum Choice {
    /// The caller said.
    Given(Language),
    /// It is long enough to tell, and tells those after it.
    Own(oneshot::Sender<Language>),
    /// From the last one that was long enough: of its channel, else of the other.
    Earlier(Told),
    /// Nothing is known yet.
    Unknown,
}

fn choose(channel: usize, cut: &Cut, given: Option<Language>, told: &mut [Option<Told>]) -> Choice {
    if let Some(language) = given {
        return Choice::Given(language);
    }
    if cut.end_ms - cut.start_ms >= IDENTIFIABLE_MS {
        let (tell, hear) = oneshot::channel();
        told[channel] = Some(hear.shared());
        return Choice::Own(tell);
    }
    let earlier = told[channel]
        .clone()
        .or_else(|| told.iter().flatten().next().cloned());
    earlier.map_or(Choice::Unknown, Choice::Earlier)
}

/// The rate at which a recording is heard: telephone audio as it is, everything else as Whisper
/// wants it.
fn heard_rate(rate: u32) -> u32 {
    if rate <= 8000 { 8000 } else { mel::RATE }
}
