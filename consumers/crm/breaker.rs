//! A circuit breaker: a CRM that fails again and again is left alone for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which nothing is sent.
const FAILURES: u32 = 5;
/// The longest it stays open.
const LONGEST: Duration = Duration::from_secs(600);

/// The breaker of one connection: closed, open for a while, then open for one trial.
#[derive(Debug)]
pub struct Breaker {
    first: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    opened: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// A closed one; it opens for `first`, then twice as long each time.
    pub fn new(first: Duration) -> Self {
        Self {
            first,
            state: Mutex::default(),
        }
    }

    /// Whether it is open, and for how long still: nothing once a trial is due.
    pub fn open(&self, now: Instant) -> Option<Duration> {
        let until = self.lock().until?;
        Some(until.saturating_duration_since(now))
    }

    /// An answer came.
    pub fn succeeded(&self) {
        *self.lock() = State::default();
    }

    /// No answer came, or one that says that the CRM is down; true when that opened it.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.failures += 1;
        // The trial of an open one decides alone.
        if state.failures < FAILURES && state.until.is_none() {
            return false;
        }
        self.trip(&mut state, now);
        true
    }

    /// Opens it at once.
    pub fn hung(&self, now: Instant) {
        self.trip(&mut self.lock(), now);
    }

    fn trip(&self, state: &mut State, now: Instant) {
        let pause = self.first * 2_u32.saturating_pow(state.opened.min(16));
        state.opened += 1;
        state.failures = 0;
        state.until = Some(now + jittered(pause.min(LONGEST)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between three quarters and five quarters of a pause, so that not all come back at once.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);

    #[test]
    fn it_opens_after_failures_in_a_row_and_longer_each_time() {
        let (breaker, mut now) = (Breaker::new(FIRST), Instant::now());
        for _ in 0..4 {
            assert!(!breaker.failed(now));
        }
        breaker.succeeded();
        for _ in 0..4 {
            assert!(!breaker.failed(now));
        }
        assert!(breaker.open(now).is_none());
        assert!(breaker.failed(now));
        let mut longest = Duration::ZERO;
        for round in 0..12 {
            let open = breaker.open(now).unwrap();
            assert!(
                open <= LONGEST.mul_f64(1.25) && open >= FIRST.mul_f64(0.75),
                "{open:?}"
            );
            assert!(
                round > 2 || open > longest.mul_f64(1.1),
                "{open:?} after {longest:?}"
            );
            longest = longest.max(open);
            now += open;
            assert_eq!(breaker.open(now), Some(Duration::ZERO), "a trial is due");
            assert!(breaker.failed(now), "the trial alone opens it again");
        }
        breaker.succeeded();
        assert!(breaker.open(now).is_none());
    }

    #[test]
    fn a_hung_crm_opens_it_at_once() {
        let (breaker, now) = (Breaker::new(FIRST), Instant::now());
        breaker.hung(now);
        assert!(breaker.open(now).unwrap() >= FIRST.mul_f64(0.75));
    }
}
