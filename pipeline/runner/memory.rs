//! What the runner remembers of one call.

use std::collections::{HashSet, VecDeque};

use schemas::EventId;

/// Event ids of a call that are kept to recognise a record written twice.
const REMEMBERED: usize = 1_024;

/// What the runner and the stage remember of one call. A function of the call's records alone.
#[derive(Debug)]
pub(crate) struct Memory<C> {
    /// The stage's own state.
    pub call: C,
    /// Whether `Started` came and `Ended` did not. What is not open remembers nothing.
    pub open: bool,
    /// Timestamp of its newest record, in milliseconds since 1970.
    pub newest: i64,
    seen: Seen,
}

impl<C: Default> Memory<C> {
    pub fn new() -> Self {
        Self {
            call: C::default(),
            open: false,
            newest: 0,
            seen: Seen::default(),
        }
    }

    /// Whether this event was seen not long ago; remembers it if not.
    pub fn is_duplicate(&mut self, event_id: EventId) -> bool {
        !self.seen.insert(event_id)
    }

    /// Whether a record of this time comes too long after the last one to be of the same call.
    pub fn is_expired(&self, timestamp: i64, timeout_ms: i64) -> bool {
        self.open && timestamp.saturating_sub(self.newest) > timeout_ms
    }
}

/// The last event ids.
#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<EventId>,
    ids: HashSet<EventId>,
}

impl Seen {
    /// False when it is there already.
    fn insert(&mut self, id: EventId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> EventId {
        EventId::derive("test", "call", number)
    }

    #[test]
    fn a_recent_event_is_recognised_and_an_old_one_is_forgotten() {
        let mut memory = Memory::<()>::new();
        assert!(!memory.is_duplicate(id(0)));
        assert!(memory.is_duplicate(id(0)));
        for number in 1..=1_024 {
            assert!(!memory.is_duplicate(id(number)));
        }
        assert!(!memory.is_duplicate(id(0)));
        assert!(memory.is_duplicate(id(1_024)));
    }

    #[test]
    fn only_an_open_call_expires() {
        let mut memory = Memory::<()>::new();
        memory.newest = 1_000;
        assert!(!memory.is_expired(9_000, 5_000));
        memory.open = true;
        assert!(memory.is_expired(9_000, 5_000));
        assert!(!memory.is_expired(6_000, 5_000));
        assert!(!memory.is_expired(i64::MIN, 5_000));
    }
}
