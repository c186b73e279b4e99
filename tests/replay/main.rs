//! `coach replay` on real Kafka and PostgreSQL: what it brings back is what there was, and nothing
//! of it reaches anyone.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harmless;
mod rebuild;
mod redrive;
mod scene;
mod shadow;
