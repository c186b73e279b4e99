//! Keeps what calls' events tell, and asks for a call's note once all of it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::{Effects, Envelope, Sink, StageError, TraceContext, database};
use schemas::{AnyEvent, Body, Event, EventId, Head, NoteCause, NoteRequest, Topic, topics};

use super::desk::Desk;
use super::fact::{self, Fact};
use super::note;

/// The sink of everything that a note may say.
pub struct Gather(pub(super) Arc<Desk>);

/// What asks for a call's note.
struct Trigger {
    head: Head,
    cause: NoteCause,
    trace: TraceContext,
}

impl Sink for Gather {
    const NAME: &'static str = "crm";
    // What it keeps are rows, but what it asks for ends in a CRM.
    const EFFECTS: Effects = Effects::Outside;
    const TOPICS: &'static [Topic] = &[
        topics::CALLS_TRANSCRIPT,
        topics::CALLS_INSIGHTS,
        topics::COACHING_TIPS,
        topics::COACHING_FEEDBACK,
    ];

    async fn write(&self, batch: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        let desk = &self.0;
        let (mut facts, mut triggers) = (Vec::new(), BTreeMap::new());
        for envelope in batch {
            let head = envelope.event.head();
            let Some(tenant) = desk.tenants.get(&head.tenant) else {
                continue;
            };
            let Some(kept) = fact::of(&envelope.event, tenant.personal_content) else {
                continue;
            };
            if let Some(cause) = cause(&kept.fact) {
                let trigger = Trigger {
                    head: head.clone(),
                    cause,
                    trace: envelope.trace.next(),
                };
                triggers.insert(head.call_id.clone(), trigger);
            }
            facts.push((head.tenant.clone(), head.call_id.clone(), kept));
        }
        desk.book
            .keep(&facts)
            .await
            .map_err(database::stage_error)?;
        // Only now: of two processes that keep a call's last two facts, the later sees both.
        let calls: BTreeSet<&str> = triggers.keys().map(String::as_str).collect();
        let over = desk
            .book
            .over(&calls)
            .await
            .map_err(database::stage_error)?;
        for (call, trigger) in &triggers {
            let Some(tenant) = desk.tenants.get(&trigger.head.tenant) else {
                continue;
            };
            let mut needed = note::topics(tenant.personal_content);
            let told = over.get(call);
            if needed.all(|topic| told.is_some_and(|told| told.contains(topic))) {
                ask(desk, trigger).await?;
            }
        }
        Ok(())
    }
}

/// Whether a fact asks for the note of a call that is over.
fn cause(fact: &Fact) -> Option<NoteCause> {
    match fact {
        Fact::Over { .. } => Some(NoteCause::Ended),
        Fact::Did { .. } => Some(NoteCause::Feedback),
        Fact::Started { .. }
        | Fact::Said { .. }
        | Fact::Found { .. }
        | Fact::Told { .. }
        | Fact::Outcome { .. } => None,
    }
}

/// Asks for a call's note, in the name of the event that gave cause.
async fn ask(desk: &Desk, trigger: &Trigger) -> Result<(), StageError> {
    let caused_by = trigger.head.event_id.to_string();
    let event = Event {
        head: Head {
            event_id: EventId::derive("crm.requests", &caused_by, 0),
            ..trigger.head.clone()
        },
        body: Body::Item(NoteRequest {
            cause: trigger.cause,
            outcome: None,
        }),
    };
    let sent = desk.out.send(&event, &trigger.trace).await;
    sent.map(|_| ()).map_err(StageError::fatal)
}
