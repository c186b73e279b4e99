//! What transcription remembers of a call: a function of the call's audio, whether or not its
//! utterances were written down. After a restart it comes out the same from hearing the audio
//! again, without Whisper; all but the number of utterances, which is unknown then.

use std::sync::Arc;

use pipeline::{Poison, StageError};
use producers::audio;
use schemas::{Chunk, Encoding, Language, Speaker, Started};

use super::{Cut, Cutter, CutterSettings, IDENTIFIABLE_MS, Vad, mel};
use crate::onnx::ModelError;

/// Milliseconds of audio that may be missing between two chunks.
const LONGEST_GAP_MS: i64 = 10 * 60 * 1000;
/// Milliseconds by which chunks may be off without anything missing: their times are rounded.
const SLACK_MS: i64 = 10;

/// What is remembered of one call.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    given: Option<Language>,
    speakers: Vec<Speaker>,
    started_at: i64,
    /// Samples a second; 0 before the first chunk.
    rate: u32,
    channels: Vec<Channel>,
    /// Samples of each channel that have come, missing ones included.
    position: i64,
    /// Samples of each channel that were heard.
    heard: i64,
    /// Utterances written down; none when that is not known.
    written: Option<i32>,
}

#[derive(Clone, Debug)]
struct Channel {
    cutter: Cutter,
    /// Samples that the cutter has not had yet.
    new: Vec<f32>,
    language: Remembered,
}

/// The language last spoken on a channel, as far as it is known.
#[derive(Clone, Debug, Default)]
enum Remembered {
    /// Nothing long enough was said.
    #[default]
    Nothing,
    /// Whisper has told.
    Language(Language),
    /// It can be told from this speech, when it is needed.
    Speech(Arc<Vec<f32>>),
}

/// An utterance's sound and whose it is.
#[derive(Debug)]
pub(super) struct Speech {
    pub(super) channel: usize,
    pub(super) cut: Cut,
}

/// Where the language of an utterance comes from.
pub(super) enum Told {
    /// It is known.
    Language(Language),
    /// From the utterance, which is long enough.
    ByItself,
    /// From this channel's earlier speech (16 kHz).
    BySpeech(usize, Vec<f32>),
    /// It is unknown.
    Nothing,
}

impl Memory {
    /// Of a call that begins.
    pub fn new(started: &Started) -> Self {
        Self {
            given: started.language.parse().ok(),
            speakers: started.channels.clone(),
            started_at: started.started_at,
            written: Some(0),
            ..Self::default()
        }
    }

    /// Takes a chunk's samples; false when all of it has come before.
    pub(super) fn take(
        &mut self,
        chunk: &Chunk,
        bytes: &[u8],
        settings: CutterSettings,
    ) -> Result<bool, StageError> {
        self.check(chunk, bytes)?;
        if self.rate == 0 {
            self.rate = chunk.sample_rate.unsigned_abs();
            let channel = || Channel {
                cutter: Cutter::new(self.rate, settings),
                new: Vec::new(),
                language: Remembered::default(),
            };
            self.channels = self.speakers.iter().map(|_| channel()).collect();
        }
        let frames = (bytes.len() / (2 * self.speakers.len())) as i64;
        let begin = chunk.offset_ms.saturating_mul(i64::from(self.rate)) / 1000;
        let slack = SLACK_MS * i64::from(self.rate) / 1000;
        let gap = match begin.saturating_sub(self.position) {
            gap if gap.abs() <= slack => 0,
            gap => gap,
        };
        if gap > LONGEST_GAP_MS * i64::from(self.rate) / 1000 {
            let detail = format!("{} ms are missing", gap * 1000 / i64::from(self.rate));
            return Err(Poison::new("audio_gap", detail).into());
        }
        let heard_before = usize::try_from(-gap).unwrap_or(0);
        if heard_before as i64 >= frames {
            return Ok(false);
        }
        let missing = usize::try_from(gap).unwrap_or(0);
        let count = self.channels.len();
        for (number, channel) in self.channels.iter_mut().enumerate() {
            channel.new.extend(std::iter::repeat_n(0.0, missing));
            let own = bytes
                .chunks_exact(2)
                .skip(number)
                .step_by(count)
                .skip(heard_before);
            channel
                .new
                .extend(own.map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0));
        }
        let new = frames - heard_before as i64;
        self.heard += new;
        self.position += missing as i64 + new;
        Ok(true)
    }

    fn check(&self, chunk: &Chunk, bytes: &[u8]) -> Result<(), Poison> {
        let Encoding::PcmS16le = chunk.encoding;
        if self.speakers.is_empty() {
            return Err(Poison::new(
                "not_started",
                "audio of a call that has no beginning",
            ));
        }
        if !matches!(chunk.sample_rate, 8000 | 16_000) {
            let detail = format!("{} Hz: 8000 and 16000 are known", chunk.sample_rate);
            return Err(Poison::new("sample_rate", detail));
        }
        if self.rate != 0 && self.rate != chunk.sample_rate.unsigned_abs() {
            let detail = format!("{} Hz after {} Hz", chunk.sample_rate, self.rate);
            return Err(Poison::new("sample_rate", detail));
        }
        if chunk.offset_ms < 0 || !bytes.len().is_multiple_of(2 * self.speakers.len()) {
            let detail = format!(
                "{} bytes at {} ms for {} channels",
                bytes.len(),
                chunk.offset_ms,
                self.speakers.len()
            );
            return Err(Poison::new("bad_audio", detail));
        }
        Ok(())
    }

    /// Hears the new samples and gives the utterances that ended, in order.
    pub(super) fn cut(mut self, vad: &mut Vad) -> Result<(Self, Vec<Speech>), ModelError> {
        let mut speech = Vec::new();
        for (channel, heard) in self.channels.iter_mut().enumerate() {
            let cuts = heard.cutter.push(vad, &std::mem::take(&mut heard.new))?;
            speech.extend(cuts.into_iter().map(|cut| Speech { channel, cut }));
        }
        speech.sort_by_key(|speech| speech.cut.end_ms);
        Ok((self, speech))
    }

    /// The utterances that were going on when the call ended.
    pub(super) fn finish(&mut self) -> Vec<Speech> {
        let channels = self.channels.iter_mut().enumerate();
        let speech = channels.filter_map(|(channel, heard)| {
            Some(Speech {
                channel,
                cut: heard.cutter.finish()?,
            })
        });
        let mut speech: Vec<Speech> = speech.collect();
        speech.sort_by_key(|speech| speech.cut.end_ms);
        speech
    }

    /// Counts an utterance that is written down.
    pub(super) fn count(&mut self) {
        self.written = self.written.map(|written| written.saturating_add(1));
    }

    /// From now on the number of utterances is unknown: speech was passed by without Whisper, and
    /// only Whisper tells whether there are words in it.
    pub(super) fn lose_count(&mut self) {
        self.written = None;
    }

    /// Number of utterances written down, when every one since the call's start was counted.
    pub(super) fn written(&self) -> Option<i32> {
        self.written
    }

    /// Keeps speech that tells the channel's language.
    pub(super) fn remember(&mut self, speech: &Speech) {
        if self.given.is_none() && tells(&speech.cut) {
            let samples = Arc::new(speech.cut.samples.clone());
            self.channels[speech.channel].language = Remembered::Speech(samples);
        }
    }

    /// Where the language of this utterance, which was just remembered, comes from.
    pub(super) fn language(&self, speech: &Speech) -> Result<Told, StageError> {
        if let Some(language) = self.given {
            return Ok(Told::Language(language));
        }
        if tells(&speech.cut) {
            return Ok(Told::ByItself);
        }
        let own = std::iter::once(speech.channel);
        let channels = own.chain(0..self.channels.len());
        for channel in channels {
            match &self.channels[channel].language {
                Remembered::Nothing => {}
                Remembered::Language(language) => return Ok(Told::Language(*language)),
                Remembered::Speech(samples) => {
                    return Ok(Told::BySpeech(channel, self.wideband(samples)?));
                }
            }
        }
        Ok(Told::Nothing)
    }

    /// Puts the language that was told in the place of the speech that told it.
    pub(super) fn learn(&mut self, channel: usize, language: Language) {
        self.channels[channel].language = Remembered::Language(language);
    }

    /// The samples at the rate that Whisper hears.
    pub(super) fn wideband(&self, samples: &[f32]) -> Result<Vec<f32>, StageError> {
        audio::resample(samples, self.rate, mel::RATE).map_err(StageError::fatal)
    }

    /// Who speaks on a channel.
    pub(super) fn speaker(&self, channel: usize) -> Speaker {
        self.speakers
            .get(channel)
            .copied()
            .unwrap_or(Speaker::Customer)
    }

    /// Milliseconds since 1970 at that many into the call.
    pub(super) fn time(&self, at_ms: i64) -> i64 {
        self.started_at.saturating_add(at_ms)
    }

    /// Milliseconds of audio heard.
    pub(super) fn heard_ms(&self) -> i64 {
        if self.rate == 0 {
            0
        } else {
            self.heard * 1000 / i64::from(self.rate)
        }
    }
}

fn tells(cut: &Cut) -> bool {
    cut.end_ms - cut.start_ms >= IDENTIFIABLE_MS
}
