//! `coach run`: stages against real Kafka and a real database.

use std::path::Path;
use std::process::ExitCode;

use consumers::registry::{self, Process};
use pipeline::telemetry::{self, TelemetrySettings};
use tokio::task::JoinSet;

use crate::{shutdown, start};

/// Runs stages against Kafka and the database.
///
/// Each stage alone in its own process, started as often as the load asks for, is how production
/// scales: instances of a stage share its topic's partitions.
#[derive(clap::Args)]
pub struct Args {
    /// Stages to run in this process, or all
    #[arg(required = true, value_parser = clap::builder::PossibleValuesParser::new(names()))]
    stages: Vec<String>,
}

fn names() -> impl Iterator<Item = &'static str> {
    registry::STAGES
        .iter()
        .map(|entry| entry.name)
        .chain(["all"])
}

/// Runs the stages until a signal, or until one of them breaks.
///
/// # Errors
/// When a stage breaks: the others are stopped cleanly, and the exit status is not 0, so that a
/// supervisor starts the process again.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    stages(&args.stages, path).await
}

/// Runs the stages of these names.
///
/// # Errors
/// As [`run`].
pub async fn stages(names: &[String], path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = start::config(path)?;
    start::log(&config)?;
    let shutdown = shutdown::on_signal()?;
    let deps = tokio::select! {
        deps = start::deps(&config) => deps?,
        () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let telemetry: TelemetrySettings = config.section("telemetry")?;
    let routes = telemetry::routes(deps.metrics.clone(), deps.health.clone());
    let process = Process {
        kafka: start::kafka(&config)?,
        runner: start::runner(&config)?,
        config,
        deps,
        shutdown: shutdown.clone(),
    };
    let all = names.iter().any(|name| name == "all");
    let mut running = JoinSet::new();
    for entry in registry::STAGES {
        if all || names.iter().any(|name| name == entry.name) {
            running.spawn((entry.run)(process.clone()));
        }
    }
    // Only now: a process of which no part is known yet would look ready.
    telemetry::serve(&telemetry, routes, shutdown.clone()).await?;
    let mut failed = Ok(ExitCode::SUCCESS);
    while let Some(ended) = running.join_next().await {
        // One that ends takes the others down with it: a process that does half its work is worse
        // than one that a supervisor starts again.
        shutdown.cancel();
        if let Err(error) = ended? {
            tracing::error!(error = format!("{error:#}"), "stage has stopped");
            failed = Err(error);
        }
    }
    failed
}
