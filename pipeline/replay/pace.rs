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

    /// Waits until `records` more are due. What was not used before does not add up.
    pub async fn take(&mut self, records: usize) {
        let Some(rate) = self.rate else { return };
        self.due = self.due.max(Instant::now());
        let from = self.due;
        self.due += Duration::from_secs_f64(records as f64 / f64::from(rate));
        sleep_until(from).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_records_take_so_long_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(Some(100));
        let begun = Instant::now();
        for _ in 0..11 {
            pace.take(10).await;
        }
        assert_eq!(begun.elapsed().as_millis(), 1_000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..3 {
            pace.take(10).await;
        }
        assert_eq!(begun.elapsed().as_millis(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let begun = Instant::now();
        Pace::new(None).take(1_000_000).await;
        assert_eq!(begun.elapsed().as_millis(), 0);
    }
}
