//! `coach replay … shadow`: recorded calls through a stage with another playbook or model.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use consumers::coaching::difference::{Difference, Tips};
use consumers::coaching::playbook::Playbook;
use consumers::registry::{self, Trial};
use pipeline::config::Config;
use pipeline::replay::session::Session;
use pipeline::replay::shadow::{self, Shadow, Shadowed};
use pipeline::replay::{Kind, Mark, ReplayError, Selection, Spans, events, plan as count, spans};
use pipeline::{Deps, telemetry};
use schemas::{Tip, topics};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::context::{self, Context, conclude};
use super::{Options, Run, bar, select};
use crate::start;

/// Takes recorded calls through a stage that is set up otherwise, and says what reps would have
/// been told. Nobody is told: it writes topics of its own, which no live stage reads.
///
/// Whole calls: those that began in the selected stretch, each to its end.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub struct Args {
    /// The playbook to try
    #[arg(long, value_name = "FILE")]
    playbook: Option<PathBuf>,
    /// The insights model to try: a folder in the cache's models
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    select: select::Args,
    /// Write the difference as JSON
    #[arg(long)]
    json: bool,
    /// The playbook's text when the replay began.
    #[arg(skip)]
    text: Option<String>,
}

impl Args {
    /// The stages that the calls pass, each reading what the one before wrote.
    fn stages(&self) -> anyhow::Result<Vec<(&'static str, Trial)>> {
        let names: &[&str] = match (&self.model, &self.playbook) {
            (Some(_), _) => &["insights", "coaching"],
            (None, Some(_)) => &["coaching"],
            (None, None) => anyhow::bail!(
                "nothing to try: --playbook FILE, --model NAME or both; with neither, reps would \
                 be told what they were told"
            ),
        };
        let trial = |name: &&'static str| {
            let entry = registry::named(name);
            let trial = entry.and_then(|entry| entry.trial);
            trial
                .map(|trial| (*name, trial))
                .with_context(|| format!("stage {name} has no trial"))
        };
        names.iter().map(trial).collect()
    }

    /// The configuration of the trial.
    fn config(&self, config: &Config) -> anyhow::Result<Config> {
        let mut config = config.clone();
        if let Some(playbook) = &self.playbook {
            let path = std::path::absolute(playbook)?;
            config.set("coaching.playbook", path.display().to_string());
        }
        if let Some(model) = &self.model {
            config.set("insights.model", model.as_str());
        }
        Ok(config)
    }

    /// Reads the playbook, so that a wrong one is told before anything begins.
    fn check(&mut self) -> anyhow::Result<()> {
        let Some(path) = &self.playbook else {
            return Ok(());
        };
        Playbook::load(Some(path))?;
        let text = std::fs::read_to_string(path)?;
        if self
            .text
            .as_ref()
            .is_some_and(|began_with| *began_with != text)
        {
            anyhow::bail!(
                "{} is not what the replay began with: cancel it and run a new one",
                path.display()
            );
        }
        self.text = Some(text);
        self.playbook = Some(std::path::absolute(path)?);
        Ok(())
    }

    async fn begun(&self, context: &Context, trial: &Trial) -> anyhow::Result<(Spans, Spans)> {
        let topic = &trial.input;
        let selection = self.select.selection(&[topic.name.to_owned()])?;
        let names = [context.kafka.topic(topic)];
        let begun = spans(&context.kafka, &names, &selection).await?;
        let ends = spans(&context.kafka, &names, &Selection::default()).await?;
        let read = shadow::to_the_end(&begun, &ends);
        Ok((begun, read))
    }

    /// Which calls, by tenant and id.
    fn of_calls(&self) -> Selection {
        Selection {
            tenant: self.select.tenant.clone(),
            call: self.select.call.clone(),
            ..Selection::default()
        }
    }
}

/// Says what a shadow would read and do.
///
/// # Errors
/// When Kafka refuses, or the playbook is none.
pub async fn plan(context: &Context, args: &Args, options: &Options) -> anyhow::Result<()> {
    let mut args = args.clone();
    args.check()?;
    let stages = args.stages()?;
    let Some((_, first)) = stages.first() else {
        return Ok(());
    };
    let (begun, read) = args.begun(context, first).await?;
    let total = begun.values().map(|span| span.at_most()).sum();
    let progress = context.progress(total);
    let shown = bar::show(&progress, "counting");
    let selection = args.of_calls();
    let counts = count::count(
        &context.kafka,
        &context.decoder,
        &begun,
        &selection,
        &progress,
    );
    let counts = counts.await?;
    drop(shown);
    let sum = counts.sum();
    println!(
        "shadow    {} records of {} calls, {}",
        sum.records,
        counts.calls,
        context::bytes(sum.bytes)
    );
    context::by_topic(&counts.topics);
    let names: Vec<&str> = stages.iter().map(|(name, _)| *name).collect();
    println!("stages    {}, beside the live ones", names.join(", then "));
    println!("writes    shadow topics of its own, kept for 7 days; nothing live reads them");
    let records = read.values().map(|span| span.at_most()).sum();
    context.say_time(Kind::Shadow, records, options).await?;
    println!("nothing was changed; coach replay run shadow does it");
    Ok(())
}

/// Runs the calls through and says what would change.
///
/// # Errors
/// When Kafka refuses, or a stage breaks.
pub async fn run(context: &Context, mut run: Run, mut args: Args) -> anyhow::Result<ExitCode> {
    args.check()?;
    // A replay that goes on later is still of the same calls.
    args.select.to.get_or_insert_with(pipeline::clock::now);
    let stages = args.stages()?;
    let Some((_, first)) = stages.first() else {
        return Ok(ExitCode::SUCCESS);
    };
    run.request.what = super::What::Shadow(args.clone());
    let (begun, read) = args.begun(context, first).await?;
    let total = read.values().map(|span| span.at_most()).sum();
    let session = context.begin(&run, total).await?;
    let done = try_out(context, &session, &run, (&args, &stages), (begun, read)).await;
    let cancelled = matches!(&done, Err(error)
        if matches!(error.downcast_ref::<ReplayError>(), Some(ReplayError::Cancelled)));
    if cancelled {
        shadow::delete_topics(&context.kafka, &own_topics(context, &session.id)).await?;
    }
    conclude(&session, done).await
}

/// Every topic that a shadow can have made.
pub fn own_topics(context: &Context, id: &str) -> Vec<String> {
    let trials = registry::STAGES.iter().filter_map(|entry| entry.trial);
    trials
        .map(|trial| shadow::topic(&context.kafka, id, &trial.output))
        .collect()
}

async fn try_out(
    context: &Context,
    session: &Session,
    run: &Run,
    (args, stages): (&Args, &[(&'static str, Trial)]),
    (begun, read): (Spans, Spans),
) -> anyhow::Result<Value> {
    let config = args.config(&context.config)?;
    let deps = session
        .progress()
        .unless_stopped(start::deps(&config))
        .await??;
    let began = Instant::now();
    let shown = bar::show(session.progress(), "trying");
    let mut what = (begun, read);
    let mut records = 0;
    let mut passed = Vec::new();
    for (name, trial) in stages {
        let output = shadow::topic(&context.kafka, &session.id, &trial.output);
        shadow::make_topic(&context.kafka, &output, &trial.output).await?;
        let trying = Shadow {
            kafka: context.kafka.clone(),
            // Each pass counts for itself, and nobody scrapes it.
            deps: Deps {
                metrics: telemetry::metrics()?,
                ..deps.clone()
            },
            settings: context.runner.clone(),
            mark: Mark {
                id: session.id.clone(),
                kind: Kind::Shadow,
                stage: None,
                effects: false,
            },
            selection: args.of_calls(),
            read: onward(run, what.1),
            begun: what.0,
            output: output.clone(),
            rate: run.request.options.rate,
            progress: Arc::clone(session.progress()),
        };
        let shadowed = (trial.run)(config.clone(), trying).await?;
        records += shadowed.emitted + shadowed.skipped;
        say(name, &shadowed);
        passed.push(json!({ "stage": name, "calls": shadowed.calls, "poison": shadowed.poison }));
        let made = spans(&context.kafka, &[output], &Selection::default()).await?;
        session
            .progress()
            .expect(made.values().map(|span| span.at_most()).sum());
        what = (made.clone(), made);
    }
    drop(shown);
    let seconds = began.elapsed().as_secs_f64();
    let difference = compare(context, session, args, what.0).await?;
    if args.json {
        println!("{}", serde_json::to_string(&difference)?);
    } else {
        println!("{difference}");
    }
    eprintln!(
        "coach: its topics are kept for 7 days; coach replay cancel {} deletes them",
        session.id
    );
    Ok(json!({
        "records": records,
        "seconds": seconds,
        "stages": passed,
        "calls": difference.calls,
        "tips": difference.sum(),
    }))
}

/// Where a pass goes on, if the replay was at it when it stopped.
fn onward(run: &Run, mut read: Spans) -> Spans {
    for (topic, partition, next) in &run.places {
        if let Some(span) = read.get_mut(&(topic.clone(), *partition)) {
            span.from = (*next).clamp(span.from, span.to);
        }
    }
    read
}

fn say(stage: &str, shadowed: &Shadowed) {
    eprintln!("coach: {stage}: {} calls", shadowed.calls);
    for (reason, count) in &shadowed.poison {
        eprintln!("coach: {stage}: {count} records refused ({reason})");
    }
}

/// The tips that reps were given beside those of the trial.
async fn compare(
    context: &Context,
    session: &Session,
    args: &Args,
    made: Spans,
) -> anyhow::Result<Difference> {
    let (mut before, mut after) = (Tips::default(), Tips::default());
    let (kafka, decoder) = (&context.kafka, &context.decoder);
    let progress = session.progress();
    events::each::<Tip>(kafka, decoder, &made, progress, |event| after.take(&event)).await?;
    let since = Selection {
        from: args.select.from,
        ..Selection::default()
    };
    let live = [context.kafka.topic(&topics::COACHING_TIPS)];
    let live = spans(kafka, &live, &since).await?;
    events::each::<Tip>(kafka, decoder, &live, progress, |event| {
        if after.knows(&event.head.call_id) {
            before.take(&event);
        }
    })
    .await?;
    Ok(Difference::of(&before, &after))
}
