//! `calls.insights`: what was found in each utterance.

use serde::{Deserialize, Serialize};

use crate::call::symbols;
use crate::{Conversation, EventId, Item, Language, ObjectionKind, Speaker, Topic, topics};

symbols! {
    /// How the speaker feels.
    SentimentLabel {
        /// Displeased.
        Negative = "negative",
        /// Neither.
        Neutral = "neutral",
        /// Pleased.
        Positive = "positive",
    }
}

/// How the speaker feels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sentiment {
    /// The likeliest class.
    pub label: SentimentLabel,
    /// Its calibrated probability, 0 to 1.
    pub score: f32,
    /// Probability of positive minus probability of negative, -1 to 1.
    pub polarity: f32,
}

/// A customer's resistance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objection {
    /// Kind of objection.
    pub kind: ObjectionKind,
    /// Calibrated probability, 0 to 1.
    pub score: f32,
}

/// What was found in an utterance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Insight {
    /// Event id of the utterance.
    pub utterance_id: EventId,
    /// Audio channel, from 0.
    pub channel: i32,
    /// Who spoke.
    pub speaker: Speaker,
    /// Where in the call the utterance begins, in milliseconds.
    pub start_ms: i64,
    /// Where in the call the utterance ends, in milliseconds.
    pub end_ms: i64,
    /// Language spoken.
    #[serde(with = "crate::call::as_text")]
    pub language: Language,
    /// Number of words (characters in Mandarin).
    pub words: i32,
    /// How the speaker feels.
    pub sentiment: Sentiment,
    /// Objections found, likeliest first; empty for the rep.
    pub objections: Vec<Objection>,
    /// Whether a next step is agreed in this utterance.
    pub next_step: bool,
    /// Whether the customer moves towards buying in this utterance; never for the rep. False in
    /// insights written before this was looked for.
    pub interest: bool,
    /// Running figures up to and including this utterance.
    pub conversation: Conversation,
}

impl Item for Insight {
    const TOPIC: Topic = topics::CALLS_INSIGHTS;
    const FIELD: &'static str = "insight";
}
