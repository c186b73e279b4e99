//! What the tests stand on: real Kafka and PostgreSQL, a browser, and processes that end with the test.
//!
//! Everything listens on free ports, keeps its files in temporary folders, and is gone when the test
//! process is, even after its SIGKILL. A helper that cannot do its work panics with the cause and the
//! way out, because a test has no better answer to that.
//!
//! ```no_run
//! # async fn example() {
//! let kafka = harness::kafka().await;
//! let topic = harness::unique("calls.audio");
//! let database = harness::postgres().await.create_database().await;
//! # }
//! ```

mod attended;
mod browser;
mod kafka;
mod paths;
mod postgres;
mod process;
mod wait;
mod wire;

pub use browser::{Browser, chromium};
pub use kafka::{Kafka, Way, kafka};
pub use paths::{Models, cache, checkout, models, python, shared};
pub use postgres::{Postgres, postgres};
pub use process::{Process, Signal, alive};
pub use wait::{eventually, free_port, unique};
pub use wire::{Flow, Wire};
