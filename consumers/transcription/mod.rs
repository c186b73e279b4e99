//! Turns a call's audio into utterances: voice activity cuts each channel, Whisper writes down
//! what was said.

pub mod cutter;
pub mod mel;
pub mod pool;
pub mod recording;
pub mod text;
pub mod transcriber;
pub mod vad;
pub mod whisper;

use schemas::Language;
use serde::{Deserialize, Serialize};

pub use cutter::{Cut, Cutter, CutterSettings};
pub use transcriber::{LanguageChoice, TranscribeError, Transcriber, Transcription};
pub use vad::Vad;

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
    /// When an utterance begins and ends.
    pub cutter: CutterSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "whisper-base".to_owned(),
            workers: 0,
            languages: Language::ALL.to_vec(),
            cutter: CutterSettings::default(),
        }
    }
}
