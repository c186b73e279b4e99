//! `calls.transcript`: what was said, an utterance at a time.

use serde::{Deserialize, Serialize};

use crate::{Item, Language, Sealed, Speaker, Topic, topics};

/// One speaker's words between pauses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Utterance {
    /// Audio channel, from 0.
    pub channel: i32,
    /// Who spoke.
    pub speaker: Speaker,
    /// Where in the call the first word begins, in milliseconds.
    pub start_ms: i64,
    /// Where in the call the last word ends, in milliseconds.
    pub end_ms: i64,
    /// Language spoken.
    #[serde(with = "crate::call::as_text")]
    pub language: Language,
    /// Number of words (characters in Mandarin).
    pub words: i32,
    /// Sealed: the words (UTF-8).
    pub text: Sealed,
}

impl Item for Utterance {
    const TOPIC: Topic = topics::CALLS_TRANSCRIPT;
    const FIELD: &'static str = "utterance";
}
