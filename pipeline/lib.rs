//! How a stage runs: reads a call's events in order, hands them to the stage, writes what it
//! emits and commits both together. Knows nothing of sales.

pub mod clock;
pub mod config;
pub mod database;
mod dead_letter;
pub mod decoder;
pub mod deps;
mod effects;
pub mod envelope;
pub mod error;
pub mod headers;
pub mod kafka;
pub mod metrics;
pub mod outbox;
pub mod producer;
pub mod reader;
pub mod registry;
pub mod replay;
pub mod runner;
pub mod seal;
pub mod sink;
pub mod stage;
pub mod telemetry;
pub mod topics;
mod watchdog;

pub use config::{Config, ConfigSection, Secret, Section};
pub use decoder::Decoder;
pub use deps::{Deps, SchemaSource};
pub use effects::Effects;
pub use envelope::{Envelope, Origin, TraceContext};
pub use error::{Poison, StageError};
pub use kafka::{Delivery, Kafka};
pub use outbox::Outbox;
pub use producer::{ProduceError, Producer};
pub use reader::{ReadError, Reader};
pub use seal::{CallKey, Field, KeyStore, SealError, Sealer};
pub use stage::{OpenSink, Sink, Stage};
