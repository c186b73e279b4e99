//! What reads bytes from outside, given bytes that nobody meant: records, sealed content, WAV
//! files, JSON lines, requests to the gateway. Nothing panics, nothing hangs, and what is accepted
//! is what was written.
//!
//! Each target runs for a moment with the other tests, and for `FUZZ_SECONDS` in `make fuzz`. A
//! failure prints the smallest input that shows it.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bytes;
mod gateway;
mod lines;
mod records;
mod wav;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// How long a target runs when nobody says otherwise, in seconds.
const A_MOMENT: u64 = 2;

/// Tries inputs until the time is over; panics with the smallest that fails.
fn fuzz<S: Strategy>(strategy: &S, check: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: Debug,
{
    let seconds = std::env::var("FUZZ_SECONDS").unwrap_or_default();
    let seconds = seconds.parse().unwrap_or(A_MOMENT);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let (mut runner, mut tried) = (TestRunner::new(config), 0);
    while Instant::now() < deadline {
        if let Err(failure) = runner.run(strategy, &check) {
            panic!("{failure}");
        }
        tried += 64;
    }
    println!("{tried} inputs");
}
