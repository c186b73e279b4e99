//! Turns a call's audio into utterances: voice activity cuts each channel, Whisper writes down
//! what was said.

mod call;
pub mod cutter;
pub mod mel;
pub mod names;
pub mod pool;
pub mod recording;
pub mod spelling;
pub mod text;
pub mod transcriber;
pub mod vad;
pub mod vocabulary;
pub mod whisper;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pipeline::envelope::Input;
use pipeline::{
    CallKey, Deps, Effects, Field, Outbox, Poison, SealError, Sealer, Stage, StageError,
};
use prometheus::{IntCounterVec, Opts};
use schemas::{Body, Chunk, Ended, Language, Utterance};
use serde::{Deserialize, Serialize};

pub use call::Memory;
use call::{Speech, Told};
use pool::Pool;

pub use cutter::{Cut, Cutter, CutterSettings};
pub use spelling::{Spelling, TenantSettings};
pub use transcriber::{LanguageChoice, TranscribeError, Transcriber, Words};
pub use vad::Vad;
pub use vocabulary::Vocabulary;

/// Milliseconds of speech from which on its language is told reliably (30 of 31 at 3 s, 26 of 31
/// at 1.5 s).
pub const IDENTIFIABLE_MS: i64 = 3000;

/// The stage's config section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder of the Whisper model in the cache's `models`.
    pub model: String,
    /// Utterances transcribed at the same time, each on its own thread; 0 for one a core.
    pub workers: usize,
    /// Languages looked for when a call's language is not given.
    pub languages: Vec<Language>,
    /// What tenants want written otherwise, by tenant.
    pub tenants: BTreeMap<String, TenantSettings>,
    /// When an utterance begins and ends.
    pub cutter: CutterSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "whisper-base".to_owned(),
            workers: 0,
            languages: Language::ALL.to_vec(),
            tenants: BTreeMap::new(),
            cutter: CutterSettings::default(),
        }
    }
}

/// The stage: reads `calls.audio`, writes `calls.transcript`.
pub struct Transcription {
    settings: Settings,
    spellings: BTreeMap<String, Arc<Spelling>>,
    vad: Pool<Vad>,
    transcriber: Transcriber,
    sealer: Sealer,
    utterances: IntCounterVec,
}

impl Stage for Transcription {
    const NAME: &'static str = "transcription";
    const EFFECTS: Effects = Effects::Topic;
    type In = Chunk;
    type Out = Utterance;
    type Settings = Settings;
    type Call = Memory;

    async fn open(settings: Settings, deps: &Deps) -> anyhow::Result<Self> {
        let (cache, sealer) = (deps.cache.clone(), deps.sealer.clone());
        let open = move || Self::new(&cache, settings, sealer);
        let stage = tokio::task::spawn_blocking(open).await??;
        deps.metrics.register(Box::new(stage.utterances.clone()))?;
        Ok(stage)
    }

    async fn process(
        &self,
        call: &mut Memory,
        input: &Input<Chunk>,
        out: &mut Outbox<Utterance>,
    ) -> Result<(), StageError> {
        match &input.event.body {
            Body::Started(started) => {
                *call = Memory::new(started);
                out.emit(Body::Started(started.clone()));
                Ok(())
            }
            // What can fail works on a copy, so that the call is as it was if it does.
            Body::Item(chunk) => {
                let next = self.hear(call.clone(), input, chunk, out).await?;
                *call = next;
                Ok(())
            }
            Body::Ended(ended) => {
                let next = self.end(call.clone(), input, ended, out).await?;
                *call = next;
                Ok(())
            }
        }
    }
}

impl Transcription {
    /// Opens the models of the cache.
    fn new(cache: &Path, settings: Settings, sealer: Sealer) -> anyhow::Result<Self> {
        let transcriber = Transcriber::open(cache, &settings.model, settings.workers)?;
        // Voice activity takes a tenth of the time that Whisper does.
        let count = transcriber.workers().div_ceil(4);
        let vads: Result<Vec<_>, _> = (0..count).map(|_| Vad::open(cache)).collect();
        let utterances = IntCounterVec::new(
            Opts::new(
                "coach_utterances_total",
                "stretches of speech, by what was heard in them",
            ),
            &["outcome"],
        )?;
        let tenants = settings.tenants.iter();
        let spelling =
            |(name, tenant): (&String, _)| (name.clone(), Arc::new(Spelling::from(tenant)));
        Ok(Self {
            spellings: tenants.map(spelling).collect(),
            settings,
            vad: Pool::start("vad", vads?)?,
            transcriber,
            sealer,
            utterances,
        })
    }

    async fn hear(
        &self,
        mut call: Memory,
        input: &Input<Chunk>,
        chunk: &Chunk,
        out: &mut Outbox<Utterance>,
    ) -> Result<Memory, StageError> {
        let head = &input.event.head;
        let key = self.sealer.key(&head.call_id).await?;
        let bytes = key.open(Field::AUDIO, &chunk.audio)?;
        if !call.take(chunk, &bytes, self.settings.cutter)? {
            out.skip("heard_before");
            return Ok(call);
        }
        let (mut call, speech) = self
            .vad
            .run(move |vad| call.cut(vad))
            .await
            .map_err(panicked)?
            .map_err(StageError::fatal)?;
        if speech.is_empty() {
            out.skip("no_utterance_ended");
        }
        self.write(&mut call, speech, (input, &key), out).await?;
        Ok(call)
    }

    async fn end(
        &self,
        mut call: Memory,
        input: &Input<Chunk>,
        ended: &Ended,
        out: &mut Outbox<Utterance>,
    ) -> Result<Memory, StageError> {
        let speech = call.finish();
        if !speech.is_empty() {
            match self.sealer.key(&input.event.head.call_id).await {
                Ok(key) => self.write(&mut call, speech, (input, &key), out).await?,
                // An erased call ends like any other, without its last words.
                Err(SealError::NoKey(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        out.emit(Body::Ended(Ended {
            utterances: call.written(),
            transcribed_ms: Some(call.heard_ms()),
            ..ended.clone()
        }));
        Ok(call)
    }

    /// Writes down what was said, in the order in which it ended.
    async fn write(
        &self,
        call: &mut Memory,
        speech: Vec<Speech>,
        (input, key): (&Input<Chunk>, &CallKey),
        out: &mut Outbox<Utterance>,
    ) -> Result<(), StageError> {
        for speech in speech {
            call.remember(&speech);
            if input.rebuilding {
                call.lose_count();
                continue;
            }
            let words = self.words(call, &speech, &input.event.head.tenant).await?;
            let outcome = if words.text.is_empty() {
                "nothing"
            } else {
                "words"
            };
            self.utterances.with_label_values(&[outcome]).inc();
            if words.text.is_empty() {
                out.skip("no_words");
                continue;
            }
            let count = schemas::count_words(&words.text, words.language);
            let utterance = Utterance {
                channel: speech.channel as i32,
                speaker: call.speaker(speech.channel),
                start_ms: speech.cut.start_ms,
                end_ms: speech.cut.end_ms,
                language: words.language,
                words: count,
                text: key.seal(Field::TEXT, words.text.as_bytes())?,
            };
            out.emit_at(call.time(speech.cut.end_ms), Body::Item(utterance));
            call.count();
        }
        Ok(())
    }

    /// The words of one stretch of speech. Its language is the call's if that was given; else its
    /// own if it is long enough to tell; else that of the last one that was.
    async fn words(
        &self,
        call: &mut Memory,
        speech: &Speech,
        tenant: &str,
    ) -> Result<Words, StageError> {
        let any = || LanguageChoice::Among(self.settings.languages.clone());
        let told = call.language(speech)?;
        let learns = matches!(told, Told::ByItself);
        let choice = match told {
            Told::Language(language) => LanguageChoice::Known(language),
            Told::Nothing | Told::ByItself => any(),
            Told::BySpeech(channel, samples) => {
                let among = self.settings.languages.clone();
                let identified = self.transcriber.identify(samples, among).await;
                let (language, _) = identified.map_err(unheard)?;
                call.learn(channel, language);
                LanguageChoice::Known(language)
            }
        };
        let samples = call.wideband(&speech.cut.samples)?;
        let spelling = self.spellings.get(tenant).cloned().unwrap_or_default();
        let words = self
            .transcriber
            .transcribe(samples, choice, spelling)
            .await
            .map_err(unheard)?;
        if learns {
            call.learn(speech.channel, words.language);
        }
        Ok(words)
    }
}

fn unheard(error: TranscribeError) -> StageError {
    match error {
        TranscribeError::Lost(lost) => panicked(lost),
        error => StageError::fatal(error),
    }
}

/// Sound that makes a model panic does so at every try.
fn panicked(lost: pool::JobLost) -> StageError {
    Poison::new("panicked", lost).into()
}

#[cfg(test)]
mod tests;
