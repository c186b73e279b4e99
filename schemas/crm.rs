//! The topics of CRM write-back: `crm.requests`, `crm.parked` and `crm.notes`.
//!
//! They carry ids, times and codes only, nothing of what was said: what a note says is put together
//! when it is written.

use serde::{Deserialize, Serialize};

use crate::call::symbols;
use crate::{Item, Topic, topics};

symbols! {
    /// A customer relationship system.
    Crm {
        /// HubSpot.
        Hubspot = "hubspot",
        /// Salesforce.
        Salesforce = "salesforce",
    }
}

symbols! {
    /// Why a call's note is to be written.
    NoteCause {
        /// The call is over.
        Ended = "ended",
        /// The rep did something with a tip after the call was over.
        Feedback = "feedback",
        /// Someone corrected the call's outcome.
        Outcome = "outcome",
        /// An operator asked for it again.
        Redrive = "redrive",
    }
}

symbols! {
    /// What became of a note.
    NoteResult {
        /// The CRM has it, and had none of this call before.
        Written = "written",
        /// The CRM has it in place of what it had of this call before.
        Updated = "updated",
        /// It waits on `crm.parked`.
        Parked = "parked",
        /// The CRM refused it for good; its request is a dead letter.
        Failed = "failed",
        /// It was taken out of the CRM.
        Erased = "erased",
    }
}

/// A call's note is to be written, or written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRequest {
    /// Why.
    pub cause: NoteCause,
    /// The corrected outcome, when that is the cause. Never personal.
    pub outcome: Option<String>,
}

impl Item for NoteRequest {
    const TOPIC: Topic = topics::CRM_REQUESTS;
    const FIELD: &'static str = "request";
}

/// A call's note waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedNote {
    /// The CRM it waits for.
    pub crm: Crm,
    /// Why its note was to be written.
    pub cause: NoteCause,
    /// Why it waits, as a short name of a fixed set.
    pub reason: String,
    /// Until when at least, in milliseconds since 1970.
    pub until: i64,
    /// How often it was parked in a row, this time included.
    pub times: i32,
}

impl Item for ParkedNote {
    const TOPIC: Topic = topics::CRM_PARKED;
    const FIELD: &'static str = "parked";
}

/// What became of a call's note in one CRM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The CRM.
    pub crm: Crm,
    /// What became of it.
    pub result: NoteResult,
    /// The record's id in the CRM, once it has one.
    pub crm_id: Option<String>,
    /// How often it was sent so far.
    pub attempts: i32,
    /// From the event that asked for the note to the CRM's answer, in milliseconds; only for what
    /// was written.
    pub latency_ms: Option<i64>,
    /// Why it is parked or failed: a short name, or the CRM's own error code.
    pub reason: Option<String>,
    /// Until when it is parked at least, in milliseconds since 1970.
    pub until: Option<i64>,
}

impl Item for Note {
    const TOPIC: Topic = topics::CRM_NOTES;
    const FIELD: &'static str = "note";
}
