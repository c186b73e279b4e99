//! At most so many records a second.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Holds a replay to so many records a second, so that what is live keeps its share.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u32>,
    /// When the next record is due.
    due: Instant,
}

impl Pace {
    /// At most `rate` records a second; none for as fast as it goes.
    pub fn new(rate: Option<u32>) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0),
            due: Instant::now(),
        }
    }

    /// So many records at a time, of at most `size`: a low rate is one of few records at a time, not
    /// of many now and then.
    pub fn batch(&self, size: usize) -> usize {
        let most = self.rate.map_or(usize::MAX, |rate| rate as usize);
        size.clamp(1, most)
    }

    /// Waits until `records` more are due.
    pub async fn take(&mut self, records: usize) {
        let at = self.due_at(Instant::now(), records);
        sleep_until(at).await;
    }

    /// When `records` more are due, asked at `now`. What was not used before does not add up.
    fn due_at(&mut self, now: Instant, records: usize) -> Instant {
        let Some(rate) = self.rate else { return now };
        let at = self.due.max(now);
        self.due = at + Duration::from_secs_f64(records as f64 / f64::from(rate));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_records_take_so_long_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(Some(100));
        let mut now = Instant::now();
        let begun = now;
        for _ in 0..11 {
            now = pace.due_at(now, 10);
        }
        assert_eq!((now - begun).as_millis(), 1_000);
        now += Duration::from_secs(60);
        let begun = now;
        for _ in 0..3 {
            now = pace.due_at(now, 10);
        }
        assert_eq!((now - begun).as_millis(), 200);
        assert_eq!((pace.batch(500), pace.batch(7)), (100, 7));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let (mut pace, now) = (Pace::new(None), Instant::now());
        assert_eq!(pace.due_at(now, 1_000_000), now);
        assert_eq!(pace.batch(500), 500);
    }
}
