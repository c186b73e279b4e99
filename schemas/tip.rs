//! `coaching.tips`: what the rep sees.

use serde::{Deserialize, Serialize};

use crate::{EventId, Item, Language, ObjectionKind, Topic, topics};

/// What the rep sees. Its text comes from the playbook and never quotes the customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tip {
    /// Event id of the utterance that the tip answers.
    pub utterance_id: Option<EventId>,
    /// Id of the playbook's rule.
    pub rule: String,
    /// Name of the playbook.
    pub playbook: String,
    /// Version of the playbook.
    pub playbook_version: String,
    /// Objection it answers; none for tips on delivery.
    pub objection: Option<ObjectionKind>,
    /// A few words to see at a glance.
    pub title: String,
    /// One line to say.
    pub say: String,
    /// One question to ask.
    pub ask: String,
    /// Language of the text.
    #[serde(with = "crate::call::as_text")]
    pub language: Language,
    /// 1 (highest) to 5.
    pub priority: i32,
    /// When the last word that caused it was spoken, in milliseconds since 1970.
    pub spoken_at: i64,
    /// After this, in milliseconds since 1970, the tip must not be shown.
    pub expires_at: i64,
}

impl Item for Tip {
    const TOPIC: Topic = topics::COACHING_TIPS;
    const FIELD: &'static str = "tip";
}
