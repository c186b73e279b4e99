//! Replay: reading old records again on purpose, without harm.
//!
//! | kind | reads | writes |
//! |---|---|---|
//! | rebuild ([`fill`]) | topics | a sink's rows, beside those that are live |
//! | redrive ([`redrive`]) | dead letters | the topic they came from, for the one stage that gave them up |
//! | shadow ([`shadow`]) | a stage's topic | topics of its own, which nothing live reads |
//!
//! What a replay writes to a topic carries its [`Mark`], and by [`crate::Effects`] the runner keeps
//! it from stages that could do harm with it. Every replay is in the [`journal`].

pub mod events;
pub mod fill;
pub mod journal;
mod mark;
mod pace;
pub mod plan;
pub mod redrive;
mod selection;
pub mod session;
pub mod shadow;
mod source;

use rdkafka::error::KafkaError;

pub use mark::{Kind, Mark, header};
pub use pace::Pace;
pub use selection::{Offsets, Selection, Span, Spans, spans};
pub use source::Source;

/// Why a replay does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Kafka refused.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// A topic is not there.
    #[error("topic {0} does not exist: coach topics create makes the product's topics")]
    NoTopic(String),
    /// It was asked to stop; what is done stays done, and it can go on later.
    #[error("stopped")]
    Stopped,
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Another redrive began meanwhile.
    #[error("another redrive has begun meanwhile and goes on in this one's place")]
    Overtaken,
    /// A stage or sink is broken or refused.
    #[error("{stage}: {error:#}")]
    Stage {
        /// The stage.
        stage: &'static str,
        /// What it said.
        error: anyhow::Error,
    },
    /// The journal holds something that is no entry.
    #[error("the journal of replays cannot be read: {0}")]
    Journal(#[from] serde_json::Error),
    /// A record could not be written.
    #[error(transparent)]
    Write(#[from] crate::ProduceError),
}
