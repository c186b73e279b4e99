//! Watches progress, not liveness: a consumer can heartbeat and still be stuck.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a stage's runner tells the watchdog.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    ticked: AtomicU64,
    moved: AtomicU64,
    waiting: AtomicBool,
}

impl Progress {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            ticked: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
        }
    }

    /// The runner's thread goes round; `waiting`: it has records that are not committed.
    pub fn tick(&self, waiting: bool) {
        self.ticked.store(self.now(), Ordering::Relaxed);
        if !self.waiting.swap(waiting, Ordering::Relaxed) && waiting {
            self.moved();
        }
    }

    /// A record was processed, tried again, or committed.
    pub fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// Waits until nothing has moved for `limit` although it should, and says what.
    pub async fn stuck(&self, limit: Duration) -> String {
        loop {
            tokio::time::sleep(LOOK_EVERY.min(limit)).await;
            if self.since(&self.ticked) > limit {
                return format!("its thread has hung for {} s", limit.as_secs());
            }
            if self.waiting.load(Ordering::Relaxed) && self.since(&self.moved) > limit {
                return format!(
                    "records wait and none was finished for {} s",
                    limit.as_secs()
                );
            }
        }
    }

    fn since(&self, then: &AtomicU64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(then.load(Ordering::Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Watches one partition of a consumer: something new on the broker, and nothing comes.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Records and ends of the partition that the consumer gave.
    heard: u64,
    /// How many of them at the last check.
    checked: u64,
    /// Where the partition ended when the consumer last gave something.
    end: i64,
    /// Since when there is more than that.
    since: Option<Instant>,
}

impl Silence {
    pub fn new() -> Self {
        Self {
            heard: 0,
            checked: 0,
            end: -1,
            since: None,
        }
    }

    /// The consumer gave a record of this partition, or reached its end.
    pub fn heard(&mut self) {
        self.heard += 1;
    }

    /// The broker says that the partition ends at `end`. Returns for how long the consumer has
    /// given nothing although there was something new.
    pub fn check(&mut self, end: i64, now: Instant) -> Duration {
        if self.heard != self.checked {
            self.checked = self.heard;
            self.end = end;
            self.since = None;
        }
        if end <= self.end {
            return Duration::ZERO;
        }
        now.duration_since(*self.since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_while_there_is_something_new() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut silence = Silence::new();
        // Just assigned, and not even the end of the partition was reached.
        assert_eq!(silence.check(10, at(0)), Duration::ZERO);
        assert_eq!(silence.check(10, at(30)), Duration::from_secs(30));
        silence.heard();
        assert_eq!(silence.check(10, at(60)), Duration::ZERO);
        assert_eq!(silence.check(10, at(500)), Duration::ZERO);
        assert_eq!(silence.check(11, at(510)), Duration::ZERO);
        assert_eq!(silence.check(12, at(540)), Duration::from_secs(30));
        silence.heard();
        assert_eq!(silence.check(12, at(570)), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_runner_whose_thread_hangs_is_stuck() {
        let progress = Progress::new();
        progress.tick(false);
        let stuck = progress.stuck(Duration::from_millis(5)).await;
        assert!(stuck.contains("hung"), "{stuck}");
    }

    #[tokio::test]
    async fn a_runner_that_waits_on_records_and_finishes_none_is_stuck() {
        let progress = Progress::new();
        let rounds = async {
            loop {
                progress.tick(true);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = rounds => {}
            stuck = progress.stuck(Duration::from_millis(300)) => {
                assert!(stuck.contains("records wait"), "{stuck}");
            }
        }
    }

    #[tokio::test]
    async fn a_runner_without_records_is_not_stuck() {
        let progress = Progress::new();
        let rounds = async {
            for _ in 0..100 {
                progress.tick(false);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = rounds => {}
            stuck = progress.stuck(Duration::from_millis(250)) => panic!("{stuck}"),
        }
    }
}
