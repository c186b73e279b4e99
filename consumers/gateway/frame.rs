//! One step of a call's story as a rep's screen gets it: the name and JSON of a server-sent event.

use std::sync::Arc;

use pipeline::{CallKey, Field};
use schemas::{Ended, EventId, Feedback, Insight, Sealed, Started, Tip, Utterance};
use serde_json::{Value, json};

use super::position::Source;

/// One step of a call's story, and where its record lies. Personal content is still sealed.
#[derive(Debug)]
pub struct Frame {
    /// The call.
    pub call_id: Arc<str>,
    /// Topic of its record.
    pub source: Source,
    /// Offset of its record.
    pub offset: i64,
    /// What happened.
    pub story: Story,
}

/// What happened.
#[derive(Debug)]
pub enum Story {
    /// The call began.
    Started(Started),
    /// Something was said.
    Utterance(EventId, Utterance),
    /// Something was found in it.
    Insight(Insight),
    /// There is a tip.
    Tip(EventId, Tip),
    /// The rep did something with a tip, here or on another screen.
    Feedback(Feedback),
    /// The call is over; says more with each topic that has ended.
    Ended(Ended),
}

impl Frame {
    /// Name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match &self.story {
            Story::Started(_) | Story::Ended(_) => "call",
            Story::Utterance(..) => "utterance",
            Story::Insight(_) => "insight",
            Story::Tip(..) => "tip",
            Story::Feedback(_) => "feedback",
        }
    }

    /// Whether it carries personal content, which the call's key opens.
    pub fn is_personal(&self) -> bool {
        match &self.story {
            Story::Utterance(..) => true,
            Story::Started(started) => started.customer.is_some(),
            _ => false,
        }
    }

    /// Data of the server-sent event. Personal content is `null` without the call's key, which
    /// tells that the call was erased.
    pub fn data(&self, key: Option<&CallKey>) -> Value {
        let open = |field, sealed: &Sealed| key.and_then(|key| key.open_text(field, sealed).ok());
        match &self.story {
            Story::Started(started) => json!({
                "call_id": &*self.call_id,
                "state": "running",
                "rep": started.rep,
                "customer": started.customer.as_ref().and_then(|c| open(Field::CUSTOMER, c)),
                "language": started.language,
                "started_at": started.started_at,
            }),
            Story::Ended(ended) => json!({
                "call_id": &*self.call_id,
                "state": "ended",
                "summary": ended,
            }),
            Story::Utterance(id, utterance) => json!({
                "id": id,
                "speaker": utterance.speaker,
                "language": utterance.language.as_str(),
                "start_ms": utterance.start_ms,
                "end_ms": utterance.end_ms,
                "text": open(Field::TEXT, &utterance.text),
            }),
            Story::Insight(insight) => json!({
                "utterance_id": insight.utterance_id,
                "speaker": insight.speaker,
                "start_ms": insight.start_ms,
                "end_ms": insight.end_ms,
                "sentiment": insight.sentiment,
                "objections": insight.objections,
                "next_step": insight.next_step,
                "interest": insight.interest,
                "conversation": insight.conversation,
            }),
            Story::Tip(id, tip) => json!({
                "id": id,
                "utterance_id": tip.utterance_id,
                "rule": tip.rule,
                "playbook": tip.playbook,
                "playbook_version": tip.playbook_version,
                "objection": tip.objection,
                "title": tip.title,
                "say": tip.say,
                "ask": tip.ask,
                "language": tip.language.as_str(),
                "priority": tip.priority,
                "spoken_at": tip.spoken_at,
                "expires_at": tip.expires_at,
            }),
            Story::Feedback(feedback) => json!({
                "tip_id": feedback.tip_id,
                "action": feedback.action,
            }),
        }
    }
}
