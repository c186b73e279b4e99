//! Runs a stage: see [`run`].
//!
//! ```text
//! group ─▶ driver ─▶ partition (window, calls) ─▶ turn: work ─▶ stage
//!   ▲        │ ▲                                              │
//!   │        ▼ └───────────── finished records ◀──────────────┘
//! broker ◀─ writer: what was emitted and the offsets, in one transaction
//! ```

mod driver;
pub(crate) mod group;
mod low_water;
pub(crate) mod measures;
pub(crate) mod memory;
mod partition;
mod rebalance;
mod settings;
pub(crate) mod window;
pub(crate) mod work;
pub(crate) mod writer;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use schemas::Item;
use tokio_util::sync::CancellationToken;

use self::driver::{Driver, State, Wake};
use self::group::Group;
use self::measures::Measures;
use self::work::Shared;
use self::writer::Writer;
use crate::dead_letter::Flood;
use crate::watchdog::Progress;
use crate::{Decoder, Deps, Kafka, Stage};

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
/// commits what it emits together with the offsets. Waits for brokers and topics that are not
/// there yet. The part of the process's health that has the stage's name is ready while the stage
/// has its partitions, with the state of their open calls, and the brokers are there.
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
    let part = deps.health.part(S::NAME);
    let topic = S::In::TOPIC;
    let (input, output, dead) = (
        kafka.topic(&topic),
        kafka.topic(&S::Out::TOPIC),
        kafka.dead(&topic),
    );
    let needed = [input.clone(), output.clone(), dead.clone()];
    if !ready(S::NAME, kafka, &needed, &shutdown).await? {
        return Ok(());
    }
    let measures = Measures::register(&deps.metrics, S::NAME).map_err(fatal::<_>(S::NAME))?;
    let progress = Arc::new(Progress::new());
    let (tell, wakes) = std::sync::mpsc::channel();
    let look = tell.clone();
    // Once the driver is gone nobody needs waking.
    let wake = move || drop(look.send(Wake::Look));
    let group = Group::join(
        kafka,
        S::NAME,
        std::slice::from_ref(&input),
        settings,
        measures.lag.clone(),
        wake.clone(),
    )
    .map_err(|error| RunError::Kafka {
        stage: S::NAME,
        error,
    })?;
    let stop = shutdown.child_token();
    let driver = Driver {
        shared: Arc::new(Shared {
            stage,
            decoder: Decoder::from(deps),
            settings: settings.clone(),
            measures,
            progress: Arc::clone(&progress),
            output,
            shadow: None,
        }),
        runtime: tokio::runtime::Handle::current(),
        group,
        writer: Writer::new(kafka, S::NAME, settings),
        wakes,
        tell,
        shutdown: stop.clone(),
        input,
        dead,
        flood: Flood::new(settings.poison_limit),
        part,
        state: State::new(),
    };
    supervise(S::NAME, settings, &progress, (stop, wake), move || {
        driver.run()
    })
    .await
}

/// Waits for the brokers and the topics; false when shutdown came first.
pub(crate) async fn ready(
    stage: &'static str,
    kafka: &Kafka,
    topics: &[String],
    shutdown: &CancellationToken,
) -> Result<bool, RunError> {
    let wait = async {
        kafka.wait_until_reachable().await?;
        kafka.wait_for_topics(topics).await
    };
    match shutdown.run_until_cancelled(wait).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(error)) => Err(RunError::Kafka { stage, error }),
    }
}

/// Runs `drive` on a thread of its own, wakes it on shutdown, and gives up when it is stuck.
pub(crate) async fn supervise(
    stage: &'static str,
    settings: &Settings,
    progress: &Progress,
    (stop, wake): (CancellationToken, impl Fn() + Send + 'static),
    drive: impl FnOnce() -> Result<(), RunError> + Send + 'static,
) -> Result<(), RunError> {
    // Whoever drops this future stops the thread.
    let guard = stop.clone().drop_guard();
    let (done, stopped) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name(stage.to_owned());
    let spawned = thread.spawn(move || {
        // Nobody waits any more when the watchdog has spoken.
        let _ = done.send(drive());
    });
    spawned.map_err(fatal(stage))?;
    tokio::spawn(async move {
        stop.cancelled().await;
        wake();
    });
    let limit = Duration::from_secs(settings.stuck_s.max(1));
    let result = tokio::select! {
        result = stopped => result.unwrap_or_else(|_| {
            let error = anyhow::anyhow!("its thread panicked");
            Err(RunError::Fatal { stage, error })
        }),
        detail = progress.stuck(limit) => Err(RunError::Stuck { stage, detail }),
    };
    drop(guard);
    if let Err(error) = &result {
        tracing::error!(stage, error = error.to_string(), "stopped");
    }
    result
}

/// An error that stops a stage before it has begun.
pub(crate) fn fatal<E: Into<anyhow::Error>>(stage: &'static str) -> impl FnOnce(E) -> RunError {
    move |error| RunError::Fatal {
        stage,
        error: error.into(),
    }
}
