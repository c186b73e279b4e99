//! The stages that there are. Adding one is its folder and its line here.

use futures::future::{BoxFuture, FutureExt};
use pipeline::config::{Config, ConfigSection, Section};
use pipeline::{Deps, Kafka, OpenSink, Stage, runner, sink};
use tokio_util::sync::CancellationToken;

use crate::coaching::Coaching;
use crate::crm;
use crate::gateway::{self, Gateway};
use crate::insights::Insights;
use crate::reporting::Reporting;
use crate::transcription::Transcription;

/// What a stage runs with.
#[derive(Clone)]
pub struct Process {
    /// The configuration.
    pub config: Config,
    /// How Kafka is reached.
    pub kafka: Kafka,
    /// How stages are run.
    pub runner: runner::Settings,
    /// What stages may use.
    pub deps: Deps,
    /// Asks for a clean end.
    pub shutdown: CancellationToken,
}

/// One stage.
pub struct Entry {
    /// Folder, config section, consumer group and metric label.
    pub name: &'static str,
    /// Its config section.
    pub section: ConfigSection,
    /// Opens it and runs it until the process is shut down.
    pub run: fn(Process) -> BoxFuture<'static, anyhow::Result<()>>,
}

/// Every stage, in the order in which a call passes them.
pub const STAGES: &[Entry] = &[
    stage::<Transcription>(),
    stage::<Insights>(),
    stage::<Coaching>(),
    sink::<Reporting>(),
    Entry {
        name: crm::Settings::NAME,
        section: ConfigSection::of::<crm::Settings>(),
        run: |process| crm::run(process).boxed(),
    },
    Entry {
        name: gateway::Settings::NAME,
        section: ConfigSection::of::<gateway::Settings>(),
        run: gateway,
    },
];

const fn stage<S: Stage>() -> Entry {
    Entry {
        name: S::NAME,
        section: ConfigSection::of_stage::<S>(),
        run: |process| {
            // Not ready from here on, until its runner says otherwise.
            process.deps.health.part(S::NAME);
            async move {
                let Process {
                    config,
                    kafka,
                    runner,
                    deps,
                    shutdown,
                } = process;
                let stage = S::open(config.section(S::NAME)?, &deps).await?;
                Ok(runner::run(stage, &kafka, &runner, &deps, shutdown).await?)
            }
            .boxed()
        },
    }
}

const fn sink<S: OpenSink>() -> Entry {
    Entry {
        name: S::NAME,
        section: ConfigSection::of_sink::<S>(),
        run: |process| {
            // Not ready from here on, until its runner says otherwise.
            process.deps.health.part(S::NAME);
            async move {
                let Process {
                    config,
                    kafka,
                    runner,
                    deps,
                    shutdown,
                } = process;
                let sink = S::open(config.section(S::NAME)?, &deps).await?;
                Ok(sink::run(sink, &kafka, &runner, &deps, shutdown).await?)
            }
            .boxed()
        },
    }
}

fn gateway(process: Process) -> BoxFuture<'static, anyhow::Result<()>> {
    process.deps.health.part(gateway::Settings::NAME);
    async move {
        let Process {
            config,
            kafka,
            deps,
            shutdown,
            ..
        } = process;
        let settings = config.section(gateway::Settings::NAME)?;
        kafka.wait_until_reachable().await?;
        Ok(Gateway::open(settings, deps, kafka, shutdown)
            .await?
            .run()
            .await?)
    }
    .boxed()
}
