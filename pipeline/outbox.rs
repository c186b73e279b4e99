//! What a stage hands back for one input: events to write, or the reason why there are none.

use schemas::{Body, Event, EventId, Head, Item};

/// Collects what a stage emits for one input. Ids derive from the stage and the input's id, so
/// the same log always gives the same events.
#[derive(Debug)]
pub struct Outbox<T> {
    author: &'static str,
    input: Head,
    events: Vec<Event<T>>,
    skipped: Option<&'static str>,
}

impl<T: Item> Outbox<T> {
    /// An empty outbox of stage `author` for the input with this head.
    pub fn new(author: &'static str, input: Head) -> Self {
        Self {
            author,
            input,
            events: Vec::new(),
            skipped: None,
        }
    }

    /// Emits an event of the input's call, at the input's event time.
    pub fn emit(&mut self, body: Body<T>) -> EventId {
        self.emit_at(self.input.time, body)
    }

    /// Emits an event of the input's call at event time `time` (milliseconds since 1970).
    pub fn emit_at(&mut self, time: i64, body: Body<T>) -> EventId {
        let index = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        let event_id = EventId::derive(self.author, &self.input.event_id.to_string(), index);
        let head = Head {
            event_id,
            time,
            ..self.input.clone()
        };
        self.events.push(Event { head, body });
        event_id
    }

    /// Says why this input gives no event; counted under `reason`, a short name of a fixed set.
    pub fn skip(&mut self, reason: &'static str) {
        self.skipped = Some(reason);
    }

    /// What was emitted, in order, and the reason for emitting nothing.
    pub fn into_parts(self) -> (Vec<Event<T>>, Option<&'static str>) {
        (self.events, self.skipped)
    }
}
