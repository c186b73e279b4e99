//! How a stage runs: reads a call's events in order, hands them to the stage, writes what it
//! emits and commits both together. Knows nothing of sales.

pub mod deps;
pub mod envelope;
pub mod error;
pub mod outbox;
pub mod seal;
pub mod stage;

pub use deps::Deps;
pub use envelope::{Envelope, Origin, TraceContext};
pub use error::{Poison, StageError};
pub use outbox::Outbox;
pub use seal::{CallKey, Field, KeyStore, SealError, Sealer};
pub use stage::{Sink, Stage};
