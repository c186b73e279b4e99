//! The stages that there are. Adding one is its folder and its line here.

use futures::future::{BoxFuture, FutureExt};
use pipeline::config::{Config, ConfigSection, Section};
use pipeline::replay::ReplayError;
use pipeline::replay::shadow::{self, Shadow, Shadowed};
use pipeline::{Deps, Effects, Kafka, OpenSink, Stage, runner, sink};
use schemas::{Item, Topic};
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
    /// Names of further sinks that run with it: their dead letters are its own.
    pub with: &'static [&'static str],
    /// What it does beyond its output topic.
    pub effects: Effects,
    /// What it reads.
    pub reads: &'static [Topic],
    /// Its config section.
    pub section: ConfigSection,
    /// Opens it and runs it until the process is shut down.
    pub run: fn(Process) -> BoxFuture<'static, anyhow::Result<()>>,
    /// How it is tried on recorded calls; none for what does more than write its topic.
    pub trial: Option<Trial>,
}

/// A stage on recorded calls, beside the live one.
#[derive(Clone, Copy)]
pub struct Trial {
    /// What it reads.
    pub input: Topic,
    /// What it writes.
    pub output: Topic,
    /// Opens it with the settings of this configuration and takes the calls through it.
    pub run: fn(Config, Shadow) -> BoxFuture<'static, Result<Shadowed, ReplayError>>,
}

/// The stage of that name, or that a sink of that name runs with.
pub fn named(name: &str) -> Option<&'static Entry> {
    let mut stages = STAGES.iter();
    stages.find(|entry| entry.name == name || entry.with.contains(&name))
}

/// Every stage, in the order in which a call passes them.
pub const STAGES: &[Entry] = &[
    stage::<Transcription>(),
    stage::<Insights>(),
    stage::<Coaching>(),
    sink::<Reporting>(),
    Entry {
        name: crm::Settings::NAME,
        with: crm::SINKS,
        effects: Effects::Outside,
        reads: crm::TOPICS,
        section: ConfigSection::of::<crm::Settings>(),
        run: |process| crm::run(process).boxed(),
        trial: None,
    },
    Entry {
        name: gateway::Settings::NAME,
        with: &[],
        effects: gateway::EFFECTS,
        reads: gateway::TOPICS,
        section: ConfigSection::of::<gateway::Settings>(),
        run: gateway,
        trial: None,
    },
];

const fn stage<S: Stage>() -> Entry {
    Entry {
        name: S::NAME,
        with: &[],
        effects: S::EFFECTS,
        reads: const { &[S::In::TOPIC] },
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
        trial: match S::EFFECTS {
            Effects::Topic => Some(Trial {
                input: S::In::TOPIC,
                output: S::Out::TOPIC,
                run: |config, shadow| trial::<S>(config, shadow).boxed(),
            }),
            Effects::Rows | Effects::Outside => None,
        },
    }
}

async fn trial<S: Stage>(config: Config, shadow: Shadow) -> Result<Shadowed, ReplayError> {
    let broken = |error| ReplayError::Stage {
        stage: S::NAME,
        error,
    };
    let settings = config.section(S::NAME);
    let settings = settings.map_err(|errors| broken(errors.into()))?;
    let stage = S::open(settings, &shadow.deps).await.map_err(broken)?;
    shadow::run(stage, shadow).await
}

const fn sink<S: OpenSink>() -> Entry {
    Entry {
        name: S::NAME,
        with: &[],
        effects: S::EFFECTS,
        reads: S::TOPICS,
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
        trial: None,
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
