//! How fast a CRM may be asked.
//!
//! A bucket that holds as many calls as the CRM allows in its interval. A call comes back into it
//! one interval after it was made, so that no interval sees more, wherever it begins; a bucket that
//! fills steadily would allow twice as many in its first. What the CRM's answers say of the limit
//! and of what is left of it goes before our own count: others may use the same account.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many calls in any such interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls.
    pub calls: usize,
    /// The interval.
    pub interval: Duration,
}

/// The bucket of one connection.
#[derive(Debug)]
pub struct Pace(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    limit: Option<Limit>,
    made: VecDeque<Instant>,
    held_until: Option<Instant>,
}

impl Pace {
    /// A full bucket; without a limit until a CRM tells of one.
    pub fn new(limit: Option<Limit>) -> Self {
        Self(Mutex::new(Bucket {
            limit,
            made: VecDeque::new(),
            held_until: None,
        }))
    }

    /// Takes a call out of the bucket.
    ///
    /// # Errors
    /// How long to wait until there is one.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut bucket = self.lock();
        if let Some(until) = bucket.held_until.filter(|until| now < *until) {
            return Err(until - now);
        }
        let Some(limit) = bucket.limit else {
            return Ok(());
        };
        bucket.forget(now, limit.interval);
        if bucket.made.len() < limit.calls {
            bucket.made.push_back(now);
            return Ok(());
        }
        let over = bucket.made.len() - limit.calls.max(1);
        let back = bucket.made.get(over).map(|made| *made + limit.interval);
        Err(back.map_or(limit.interval, |back| back.saturating_duration_since(now)))
    }

    /// An answer came: the CRM may have counted the call as late as now.
    pub fn answered(&self, now: Instant) {
        if let Some(last) = self.lock().made.back_mut() {
            *last = now;
        }
    }

    /// What an answer's headers told: the limit, and how many calls are left of it.
    pub fn told(&self, now: Instant, limit: Limit, left: usize) {
        let mut bucket = self.lock();
        bucket.limit = Some(limit);
        bucket.forget(now, limit.interval);
        let used = limit.calls.saturating_sub(left);
        while bucket.made.len() < used {
            bucket.made.push_back(now);
        }
    }

    /// Makes no call for so long: the CRM asked for it.
    pub fn hold(&self, now: Instant, pause: Duration) {
        let mut bucket = self.lock();
        let until = now + pause;
        bucket.held_until = Some(bucket.held_until.map_or(until, |held| held.max(until)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn forget(&mut self, now: Instant, interval: Duration) {
        while self
            .made
            .front()
            .is_some_and(|made| now - *made >= interval)
        {
            self.made.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        calls: 100,
        interval: Duration::from_secs(10),
    };

    #[test]
    fn no_interval_sees_more_calls_than_allowed_wherever_it_begins() {
        let pace = Pace::new(Some(LIMIT));
        let (mut now, mut made) = (Instant::now(), Vec::new());
        while made.len() < 350 {
            match pace.take(now) {
                Ok(()) => {
                    made.push(now);
                    now += Duration::from_millis(37);
                }
                Err(wait) => now += wait,
            }
        }
        for (at, first) in made.iter().enumerate() {
            let within = made[at..]
                .iter()
                .take_while(|call| **call - *first < LIMIT.interval);
            assert!(within.count() <= LIMIT.calls);
        }
        let took = made[349] - made[0];
        assert!(took < LIMIT.interval * 4, "{took:?}");
    }

    #[test]
    fn what_the_crm_says_is_left_goes_before_our_own_count() {
        let (pace, now) = (Pace::new(None), Instant::now());
        assert_eq!(pace.take(now), Ok(()));
        pace.told(now, LIMIT, 1);
        assert_eq!(pace.take(now), Ok(()));
        assert_eq!(pace.take(now), Err(LIMIT.interval));
        assert_eq!(pace.take(now + LIMIT.interval), Ok(()));
    }

    #[test]
    fn a_call_comes_back_an_interval_after_its_answer_not_after_it_was_sent() {
        let (pace, sent) = (Pace::new(Some(Limit { calls: 1, ..LIMIT })), Instant::now());
        let took = Duration::from_millis(300);
        assert_eq!(pace.take(sent), Ok(()));
        pace.answered(sent + took);
        assert_eq!(pace.take(sent + LIMIT.interval), Err(took));
        assert_eq!(pace.take(sent + LIMIT.interval + took), Ok(()));
    }

    #[test]
    fn a_crm_that_asks_for_a_pause_gets_it() {
        let (pace, now) = (Pace::new(None), Instant::now());
        pace.hold(now, Duration::from_secs(3));
        pace.hold(now, Duration::from_secs(1));
        assert_eq!(pace.take(now), Err(Duration::from_secs(3)));
        assert_eq!(pace.take(now + Duration::from_secs(3)), Ok(()));
    }
}
