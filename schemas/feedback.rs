//! `coaching.feedback`: what the rep did with a tip.

use serde::{Deserialize, Serialize};

use crate::call::symbols;
use crate::{EventId, Item, Topic, topics};

symbols! {
    /// What the rep did.
    Action {
        /// It was on the rep's screen.
        Shown = "shown",
        /// The rep used it.
        Used = "used",
        /// The rep waved it away.
        Dismissed = "dismissed",
    }
}

/// What the rep did with a tip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Event id of the tip.
    pub tip_id: EventId,
    /// Id of the rep.
    pub rep: String,
    /// What the rep did.
    pub action: Action,
}

impl Item for Feedback {
    const TOPIC: Topic = topics::COACHING_FEEDBACK;
    const FIELD: &'static str = "feedback";
}
