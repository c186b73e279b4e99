//! The records of one partition that are read and not yet committed, in offset order, and the
//! calls that are open at the offset to commit. Records finish in any order; only the finished
//! front of the window can be committed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// What a record does to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It opens the call.
    Opens,
    /// It ends the call.
    Ends,
    /// Neither.
    Goes,
}

/// A finished record.
#[derive(Debug)]
pub(crate) struct Finished<O> {
    pub offset: i64,
    pub call: Arc<str>,
    pub turn: Turn,
    pub outcome: O,
}

#[derive(Debug)]
pub(crate) struct Window<O> {
    /// Below this offset everything is committed: records only rebuild state.
    committed: i64,
    /// Offset after the newest record read.
    next: i64,
    /// Offset after the finished front.
    position: i64,
    /// Whether the partition's end was read.
    ended: bool,
    slots: VecDeque<(i64, Option<Finished<O>>)>,
    opened: HashMap<Arc<str>, i64>,
    oldest: BTreeSet<i64>,
}

impl<O> Window<O> {
    /// A window of a partition that is committed up to `committed` and read from `start`.
    pub fn new(start: i64, committed: i64) -> Self {
        Self {
            committed,
            next: start,
            position: start,
            ended: false,
            slots: VecDeque::new(),
            opened: HashMap::new(),
            oldest: BTreeSet::new(),
        }
    }

    /// Takes in a record just read; `None` when it was read before, else whether it only rebuilds.
    pub fn read(&mut self, offset: i64) -> Option<bool> {
        if offset < self.next {
            return None;
        }
        self.next = offset + 1;
        self.slots.push_back((offset, None));
        Some(offset < self.committed)
    }

    /// Takes in that all of the partition was read: what was not there below the committed offset
    /// is not there any more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Takes in a finished record, and returns those of the finished front that are to commit.
    /// Records that only rebuilt state leave the window here.
    pub fn finish(&mut self, finished: Finished<O>) -> Front<O> {
        let place = self
            .slots
            .binary_search_by_key(&finished.offset, |(offset, _)| *offset);
        if let Ok(place) = place {
            self.slots[place].1 = Some(finished);
        }
        let mut front = Front {
            to_commit: Vec::new(),
            rebuilt: 0,
        };
        while let Some((_, Some(_))) = self.slots.front() {
            let Some((offset, Some(finished))) = self.slots.pop_front() else {
                break;
            };
            self.position = offset + 1;
            self.turn(&finished);
            if offset < self.committed {
                front.rebuilt += 1;
            } else {
                front.to_commit.push(finished);
            }
        }
        front
    }

    /// Forgets an open call for good: it does not hold the low-water offset any more. False when
    /// it is not open.
    pub fn forget(&mut self, call: &str) -> bool {
        let Some(offset) = self.opened.remove(call) else {
            return false;
        };
        self.oldest.remove(&offset);
        true
    }

    /// Offset to commit: after the finished front, and never before what is committed.
    pub fn position(&self) -> i64 {
        self.position.max(self.committed)
    }

    /// Oldest record needed to rebuild the calls that are open at [`Window::position`].
    pub fn low_water(&self) -> i64 {
        self.oldest
            .first()
            .copied()
            .unwrap_or_else(|| self.position())
    }

    /// Records read and not finished, and those that wait for one before them.
    pub fn unfinished(&self) -> usize {
        self.slots.len()
    }

    /// Whether the state is not yet what it was at the committed offset.
    pub fn rebuilding(&self) -> bool {
        self.position < self.committed && !(self.ended && self.slots.is_empty())
    }

    /// Calls that are open at [`Window::position`].
    pub fn open_calls(&self) -> usize {
        self.opened.len()
    }

    fn turn(&mut self, finished: &Finished<O>) {
        match finished.turn {
            Turn::Opens => {
                if !self.opened.contains_key(&finished.call) {
                    self.opened
                        .insert(Arc::clone(&finished.call), finished.offset);
                    self.oldest.insert(finished.offset);
                }
            }
            Turn::Ends => {
                self.forget(&finished.call);
            }
            Turn::Goes => {}
        }
    }
}

/// What leaves the window's front.
#[derive(Debug)]
pub(crate) struct Front<O> {
    pub to_commit: Vec<Finished<O>>,
    pub rebuilt: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(offset: i64, call: &str, turn: Turn) -> Finished<()> {
        Finished {
            offset,
            call: call.into(),
            turn,
            outcome: (),
        }
    }

    fn offsets(front: &Front<()>) -> Vec<i64> {
        front.to_commit.iter().map(|f| f.offset).collect()
    }

    #[test]
    fn only_the_finished_front_is_committed_in_offset_order() {
        let mut window = Window::new(10, 10);
        // Offsets have gaps where transaction markers lie.
        for offset in [10, 12, 15] {
            assert_eq!(window.read(offset), Some(false));
        }
        assert_eq!(window.read(12), None);
        assert!(offsets(&window.finish(done(15, "c", Turn::Goes))).is_empty());
        assert_eq!(window.position(), 10);
        assert_eq!(offsets(&window.finish(done(10, "a", Turn::Goes))), [10]);
        assert_eq!(window.position(), 11);
        assert_eq!(offsets(&window.finish(done(12, "b", Turn::Goes))), [12, 15]);
        assert_eq!(window.position(), 16);
        assert_eq!(window.unfinished(), 0);
    }

    #[test]
    fn the_low_water_offset_is_where_the_oldest_open_call_started() {
        let mut window = Window::new(0, 0);
        for offset in 0..6 {
            window.read(offset);
        }
        assert_eq!(window.low_water(), 0);
        window.finish(done(0, "a", Turn::Opens));
        window.finish(done(1, "b", Turn::Opens));
        window.finish(done(2, "b", Turn::Opens));
        assert_eq!((window.low_water(), window.open_calls()), (0, 2));
        // The end of a call that is not in the front yet changes nothing.
        window.finish(done(4, "a", Turn::Ends));
        assert_eq!(window.low_water(), 0);
        window.finish(done(3, "b", Turn::Goes));
        assert_eq!((window.low_water(), window.open_calls()), (1, 1));
        window.finish(done(5, "b", Turn::Ends));
        assert_eq!((window.low_water(), window.position()), (6, 6));
    }

    #[test]
    fn records_below_the_committed_offset_rebuild_and_are_not_committed_again() {
        let mut window = Window::new(3, 5);
        assert!(window.rebuilding());
        assert_eq!(window.read(3), Some(true));
        assert_eq!(window.read(4), Some(true));
        assert_eq!(window.read(5), Some(false));
        assert_eq!(window.position(), 5);
        assert_eq!(window.finish(done(3, "a", Turn::Opens)).rebuilt, 1);
        assert!(window.rebuilding());
        let front = window.finish(done(4, "a", Turn::Goes));
        assert_eq!((front.rebuilt, front.to_commit.len()), (1, 0));
        assert!(!window.rebuilding());
        assert_eq!(offsets(&window.finish(done(5, "a", Turn::Goes))), [5]);
        assert_eq!((window.low_water(), window.position()), (3, 6));
    }

    #[test]
    fn records_that_are_not_there_any_more_are_not_waited_for() {
        let mut window = Window::<()>::new(3, 9);
        window.read(5);
        window.end();
        assert!(window.rebuilding());
        window.finish(done(5, "a", Turn::Opens));
        assert!(!window.rebuilding());
    }

    #[test]
    fn a_forgotten_call_does_not_hold_the_low_water_offset() {
        let mut window = Window::new(0, 0);
        window.read(0);
        window.finish(done(0, "a", Turn::Opens));
        window.read(1);
        window.finish(done(1, "b", Turn::Goes));
        assert!(window.forget("a"));
        assert!(!window.forget("a"));
        assert_eq!(window.low_water(), 2);
    }
}
