//! One assigned partition: its window of records, and its calls, each of which is worked on by one
//! task at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::group::Start;
use super::memory::Memory;
use super::window::{Finished, Window};
use super::work::Outcome;
use crate::dead_letter::RawRecord;

/// Records of a call that one task works on before others get their turn.
const TURN: usize = 16;
/// Records of one topic come from several clocks: a call is forgotten only this much later than
/// its timeout says, in milliseconds. Forgetting frees memory and decides nothing: whether a late
/// record finds its call is decided by the two records' timestamps alone.
const CLOCKS_MS: i64 = 10 * 60 * 1_000;

/// A record and whether it only rebuilds state.
pub(crate) type Waiting = (RawRecord, bool);

pub(crate) struct Partition<C> {
    /// Tells the work on this assignment from that on an earlier one.
    pub epoch: u64,
    pub window: Window<Outcome>,
    /// Finished and to commit, in offset order.
    pub pending: Vec<Finished<Outcome>>,
    /// When it was assigned; none once its state is rebuilt.
    pub rebuilding_since: Option<Instant>,
    calls: HashMap<Arc<str>, Call<C>>,
    newest: i64,
}

struct Call<C> {
    /// None while a task works on it.
    memory: Option<Memory<C>>,
    task: Option<AbortHandle>,
    waiting: VecDeque<Waiting>,
}

impl<C: Default> Partition<C> {
    pub fn new(epoch: u64, start: Start) -> Self {
        Self {
            epoch,
            window: Window::new(start.low_water, start.committed),
            pending: Vec::new(),
            rebuilding_since: Some(Instant::now()),
            calls: HashMap::new(),
            newest: 0,
        }
    }

    /// Takes in a record just read. Returns its call when that was idle and can be started.
    pub fn read(&mut self, raw: RawRecord) -> Option<Arc<str>> {
        let rebuilding = self.window.read(raw.origin.offset)?;
        self.newest = self.newest.max(raw.timestamp);
        let key = String::from_utf8_lossy(raw.key.as_deref().unwrap_or_default());
        let key = match self.calls.get_key_value(key.as_ref()) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(key.as_ref()),
        };
        let call = self.calls.entry(Arc::clone(&key)).or_insert_with(|| Call {
            memory: Some(Memory::new()),
            task: None,
            waiting: VecDeque::new(),
        });
        call.waiting.push_back((raw, rebuilding));
        (call.memory.is_some() && call.waiting.len() == 1).then_some(key)
    }

    /// The call's memory and its next records, for a task to work on.
    pub fn start(&mut self, call: &str) -> Option<(Memory<C>, Vec<Waiting>)> {
        let call = self.calls.get_mut(call)?;
        let count = call.waiting.len().min(TURN);
        if count == 0 {
            return None;
        }
        let memory = call.memory.take()?;
        Some((memory, call.waiting.drain(..count).collect()))
    }

    /// Remembers the task that works on a call.
    pub fn started(&mut self, call: &str, task: AbortHandle) {
        if let Some(call) = self.calls.get_mut(call) {
            call.task = Some(task);
        }
    }

    /// Takes a call's memory back. True when the call has more to do.
    pub fn home(&mut self, key: &str, memory: Memory<C>) -> bool {
        let Some(call) = self.calls.get_mut(key) else {
            return false;
        };
        call.task = None;
        let more = !call.waiting.is_empty();
        if memory.open || more {
            call.memory = Some(memory);
        } else {
            self.calls.remove(key);
        }
        more
    }

    /// Takes in a finished record. Returns how many records have rebuilt state.
    pub fn finish(&mut self, finished: Finished<Outcome>) -> usize {
        let front = self.window.finish(finished);
        self.pending.extend(front.to_commit);
        front.rebuilt
    }

    /// Tasks at work.
    pub fn running(&self) -> usize {
        self.calls
            .values()
            .filter(|call| call.task.is_some())
            .count()
    }

    /// Records read and not committed.
    pub fn in_flight(&self) -> usize {
        self.window.unfinished() + self.pending.len()
    }

    /// Forgets calls that nothing came for in too long. Returns how many.
    pub fn forget_expired(&mut self, timeout_ms: i64) -> usize {
        let before = self.newest.saturating_sub(timeout_ms + CLOCKS_MS);
        let expired: Vec<Arc<str>> = self
            .calls
            .iter()
            .filter(|(_, call)| {
                let old = |memory: &Memory<C>| memory.newest < before;
                call.waiting.is_empty() && call.memory.as_ref().is_some_and(old)
            })
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let forgotten = expired.iter().filter(|key| self.window.forget(key));
        let forgotten: Vec<_> = forgotten.collect();
        for key in &forgotten {
            self.calls.remove(*key);
        }
        forgotten.len()
    }
}

impl<C> Drop for Partition<C> {
    /// What is still at work is nobody's any more.
    fn drop(&mut self) {
        for call in self.calls.values() {
            if let Some(task) = &call.task {
                task.abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::OwnedHeaders;

    use super::super::window::Turn;
    use super::*;
    use crate::Origin;

    fn raw(offset: i64, call: &str, timestamp: i64) -> RawRecord {
        RawRecord {
            origin: Origin {
                topic: "t".into(),
                partition: 0,
                offset,
            },
            timestamp,
            key: Some(call.into()),
            payload: None,
            headers: OwnedHeaders::new(),
        }
    }

    fn partition() -> Partition<()> {
        let start = Start {
            low_water: 0,
            committed: 0,
        };
        Partition::new(1, start)
    }

    #[test]
    fn a_call_is_worked_on_by_one_task_at_a_time_and_in_order() {
        let mut partition = partition();
        assert_eq!(partition.read(raw(0, "a", 0)).as_deref(), Some("a"));
        assert_eq!(partition.read(raw(1, "a", 0)), None);
        assert_eq!(partition.read(raw(2, "b", 0)).as_deref(), Some("b"));
        let (mut memory, records) = partition.start("a").unwrap();
        let offsets = |records: &[Waiting]| -> Vec<i64> {
            records.iter().map(|(raw, _)| raw.origin.offset).collect()
        };
        assert_eq!(offsets(&records), [0, 1]);
        assert_eq!(partition.read(raw(3, "a", 0)), None);
        assert!(partition.start("a").is_none());
        memory.open = true;
        assert!(partition.home("a", memory));
        let (memory, records) = partition.start("a").unwrap();
        assert!(memory.open);
        assert_eq!(offsets(&records), [3]);
    }

    #[test]
    fn a_call_that_is_not_open_is_forgotten_when_its_records_are_done() {
        let mut partition = partition();
        partition.read(raw(0, "a", 0));
        let (memory, _) = partition.start("a").unwrap();
        assert!(!partition.home("a", memory));
        assert!(partition.calls.is_empty());
    }

    #[test]
    fn an_abandoned_call_lets_the_low_water_offset_go_after_the_timeout() {
        let mut partition = partition();
        partition.read(raw(0, "a", 1_000));
        let (mut memory, _) = partition.start("a").unwrap();
        (memory.open, memory.newest) = (true, 1_000);
        partition.home("a", memory);
        partition.finish(Finished {
            offset: 0,
            call: "a".into(),
            turn: Turn::Opens,
            outcome: Outcome::Skipped("nothing"),
        });
        partition.read(raw(1, "b", 2_000));
        assert_eq!(partition.forget_expired(5_000), 0);
        assert_eq!(partition.window.low_water(), 0);
        partition.read(raw(2, "b", 7_000 + CLOCKS_MS));
        assert_eq!(partition.forget_expired(5_000), 1);
        assert_eq!(partition.window.low_water(), 1);
    }
}
