//! `coach replay … rebuild`: the reporting tables anew from the topics.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use consumers::reporting::Reporting;
use consumers::reporting::rebuild::{Difference, Held, Rebuild, RebuildError, Scope};
use pipeline::database::DatabaseSettings;
use pipeline::replay::fill::{Filled, Filling};
use pipeline::replay::session::Session;
use pipeline::replay::{Kind, Pace, ReplayError, Selection, Spans, events, plan as count, spans};
use pipeline::{Section, Sink};
use schemas::topics;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::context::{self, Context, conclude};
use super::{Options, Run, bar, question};

/// Fewer records than this may be left when the live tables are locked for the rest.
const NEAR: u64 = 2_000;
/// So many times what came meanwhile is read before that is not waited for any longer.
const ROUNDS: usize = 20;

/// Rebuilds the reporting tables from the topics, beside the live ones, and puts the difference in
/// place in one transaction. The live sink goes on meanwhile; it waits for the moment of the swap.
///
/// Rows of calls that a topic does not hold from their start any more stay as they are.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct Args {
    /// Only this customer organisation's rows
    #[arg(long, conflicts_with = "call")]
    tenant: Option<String>,
    /// Only this call's rows
    #[arg(long)]
    call: Option<String>,
    /// Take away live rows that no record explains; without it they stay
    #[arg(long)]
    remove: bool,
}

impl Args {
    fn scope(&self) -> Scope {
        match (&self.tenant, &self.call) {
            (_, Some(call)) => Scope::Call(call.clone()),
            (Some(tenant), None) => Scope::Tenant(tenant.clone()),
            (None, None) => Scope::All,
        }
    }

    fn selection(&self) -> Selection {
        Selection {
            tenant: self.tenant.clone(),
            call: self.call.clone(),
            ..Selection::default()
        }
    }

    fn says(&self) -> String {
        match self.scope() {
            Scope::All => "all rows".to_owned(),
            Scope::Tenant(tenant) => format!("the rows of tenant {tenant}"),
            Scope::Call(call) => format!("the rows of call {call}"),
        }
    }
}

/// Says what a rebuild would read and do.
///
/// # Errors
/// When Kafka refuses.
pub async fn plan(context: &Context, args: &Args, options: &Options) -> anyhow::Result<()> {
    let all = everything(context).await?;
    let total = all.values().map(|span| span.at_most()).sum();
    let progress = context.progress(total);
    let bar = bar::show(&progress, "counting");
    let selection = args.selection();
    let counts = count::count(
        &context.kafka,
        &context.decoder,
        &all,
        &selection,
        &progress,
    );
    let counts = counts.await?;
    drop(bar);
    let sum = counts.sum();
    println!("rebuild   {} of the reporting tables", args.says());
    println!(
        "records   {} of {} calls, {}",
        sum.records,
        counts.calls,
        context::bytes(sum.bytes)
    );
    context::by_topic(&counts.topics);
    println!("stages    reporting, into a schema of its own; the live one goes on");
    let read = if selection == Selection::default() {
        sum.records
    } else {
        total
    };
    context.say_time(Kind::Rebuild, read, options).await?;
    println!("then      compares, asks, and puts the difference in place in one transaction");
    println!("nothing was changed; coach replay run rebuild does it");
    Ok(())
}

/// Rebuilds.
///
/// # Errors
/// When Kafka or the database refuses.
pub async fn run(context: &Context, run: Run, args: Args) -> anyhow::Result<ExitCode> {
    let all = everything(context).await?;
    let total = all.values().map(|span| span.at_most()).sum();
    let session = context.begin(&run, total).await?;
    let done = rebuild(context, &session, &run, &args).await;
    let cancelled = matches!(&done, Err(error)
        if matches!(error.downcast_ref::<ReplayError>(), Some(ReplayError::Cancelled)));
    if cancelled {
        discard(context, &session.id).await?;
    }
    conclude(&session, done).await
}

/// The schema of a replay's own tables.
pub fn schema(id: &str) -> String {
    let name = id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    format!("replay_{}", name.collect::<String>().to_lowercase())
}

/// Throws a replay's own tables away, if there are any.
///
/// # Errors
/// When the database refuses.
pub async fn discard(context: &Context, id: &str) -> anyhow::Result<()> {
    let settings: DatabaseSettings = context.config.section(DatabaseSettings::NAME)?;
    let pool = pipeline::database::connect_once(&settings).await?;
    Ok(consumers::reporting::rebuild::discard(&pool, &schema(id)).await?)
}

async fn rebuild(
    context: &Context,
    session: &Session,
    run: &Run,
    args: &Args,
) -> anyhow::Result<Value> {
    let begun = Instant::now();
    let database: DatabaseSettings = context.config.section(DatabaseSettings::NAME)?;
    let reporting = context.config.section(Reporting::NAME)?;
    let rebuild = Rebuild::open(reporting, &database, &schema(&session.id), args.scope()).await?;
    let selection = args.selection();
    let mut work = Work {
        context,
        session,
        filling: Filling {
            sink: &rebuild.sink,
            kafka: &context.kafka,
            decoder: &context.decoder,
            settings: &context.runner,
            selection: &selection,
            progress: session.progress(),
        },
        rebuild: &rebuild,
        pace: Pace::new(run.request.options.rate),
        filled: Filled::default(),
    };
    let shown = bar::show(session.progress(), "rebuilding");
    work.catch_up(NEAR, ROUNDS).await?;
    drop(shown);
    let held = held(context, session).await?;
    let (kept, differences) = rebuild.compare(&held).await?;
    report(&work.filled, kept, &differences, args);
    let asked = format!(
        "Put {} in place? The live sink waits for it, readers do not.",
        args.says()
    );
    let seconds = begun.elapsed().as_secs_f64();
    question::ask(&asked, run.yes, session.progress()).await?;
    work.catch_up(NEAR, ROUNDS).await?;
    let swapping = Instant::now();
    let mut locked = rebuild.lock().await?;
    // What the live sink can have written lies before this: it cannot write any more. It waits,
    // whatever the rate.
    work.pace = Pace::new(None);
    work.catch_up(0, 1).await?;
    let (kept, differences) = locked.compare(&held).await?;
    session.progress().check()?;
    locked.swap(args.remove).await?;
    let swapped_ms = swapping.elapsed().as_millis();
    println!("put in place; the live sink waited for {swapped_ms} ms");
    let filled = work.filled;
    // What is in place is in place: a schema that stays is only untidy.
    if let Err(error) = rebuild.discard().await {
        tracing::warn!(%error, "the replay's own tables were not cleared away");
    }
    Ok(json!({
        "records": filled.written + filled.others + filled.replayed,
        "seconds": seconds,
        "written": filled.written,
        "poison": filled.poison,
        "kept_stories": kept,
        "swap_ms": u64::try_from(swapped_ms).unwrap_or(u64::MAX),
        "tables": differences,
    }))
}

struct Work<'a> {
    context: &'a Context,
    session: &'a Session,
    filling: Filling<'a, Reporting>,
    rebuild: &'a Rebuild,
    pace: Pace,
    filled: Filled,
}

impl Work<'_> {
    /// Reads on until no more than `near` records can be left, or `rounds` times.
    async fn catch_up(&mut self, near: u64, rounds: usize) -> anyhow::Result<()> {
        for _ in 0..rounds {
            let left = self.left().await?;
            let count: u64 = left.values().map(|span| span.at_most()).sum();
            if count == 0 {
                return Ok(());
            }
            let rebuild = self.rebuild;
            let written = async |places: &pipeline::replay::fill::Places| {
                let kept = rebuild.keep_places(places).await;
                kept.map_err(|error: RebuildError| ReplayError::Stage {
                    stage: Reporting::NAME,
                    error: error.into(),
                })
            };
            let filled = self.filling.fill(&left, &mut self.pace, written).await?;
            self.filled.add(filled);
            if count <= near {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What is not read yet.
    async fn left(&self) -> anyhow::Result<Spans> {
        let mut left = everything(self.context).await?;
        for (topic, partition, next) in self.rebuild.places().await? {
            self.session
                .progress()
                .reach((topic.clone(), partition), next);
            if let Some(span) = left.get_mut(&(topic, partition)) {
                span.from = next.clamp(span.from, span.to);
            }
        }
        Ok(left)
    }
}

/// All records of all topics.
async fn everything(context: &Context) -> anyhow::Result<Spans> {
    let names = count::names(&context.kafka, topics::ALL);
    Ok(spans(&context.kafka, &names, &Selection::default()).await?)
}

/// How far back each topic reaches.
async fn held(context: &Context, session: &Session) -> anyhow::Result<Vec<Held>> {
    let all = everything(context).await?;
    let since: BTreeMap<String, Option<i64>> =
        events::reach(&context.kafka, &all, session.progress()).await?;
    let held = topics::ALL.iter().map(|topic| Held {
        topic: topic.name,
        since: since.get(&context.kafka.topic(topic)).copied().flatten(),
    });
    Ok(held.collect())
}

fn report(filled: &Filled, kept: u64, differences: &[Difference], args: &Args) {
    println!(
        "{:<20} {:>10} {:>10} {:>10} {:>12}",
        "table", "same", "missing", "changed", "unexplained"
    );
    for row in differences {
        println!(
            "{:<20} {:>10} {:>10} {:>10} {:>12}",
            row.table, row.same, row.missing, row.changed, row.unexplained
        );
    }
    println!("missing and changed rows are mended.");
    let unexplained: u64 = differences.iter().map(|row| row.unexplained).sum();
    match (unexplained, args.remove) {
        (0, _) => {}
        (some, true) => println!("{some} live rows that no record explains are taken away."),
        (some, false) => {
            println!("{some} live rows that no record explains stay; --remove takes them away.")
        }
    }
    if kept > 0 {
        println!(
            "{kept} stories of calls stay as they are: the topics do not hold them from their \
             start any more."
        );
    }
    for (reason, count) in &filled.poison {
        println!("{count} records are no rows ({reason}): dead letters of the live sink as well.");
    }
}
