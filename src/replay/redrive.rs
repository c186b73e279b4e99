//! `coach replay … redrive`: dead letters back through the stage that gave them up.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use consumers::registry;
use pipeline::Effects;
use pipeline::replay::redrive::{Letter, Letters, Wanted};
use pipeline::replay::{Kind, journal, redrive};
use schemas::{Topic, topics};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::context::{self, Context, conclude};
use super::{Options, Request, Run, What, question, select};

/// Sends dead letters back through the stage that gave them up, after the cause is mended. Each
/// call's letters go in the order in which they were new, each letter once, whatever happens.
///
/// Only that stage sees them; what it makes of them goes the usual way, but to no softphone and no
/// CRM.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct Args {
    /// Only letters of this topic, for example calls.transcript; may be given several times
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(topics::ALL.iter().map(|t| t.name)))]
    topic: Vec<String>,
    /// Only what this stage gave up
    #[arg(long)]
    stage: Option<String>,
    /// Only what was given up for this reason, for example decode
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    select: select::Args,
    /// Let a stage with effects outside (a CRM's) do for its letters what it could not do before
    #[arg(long)]
    with_effects: bool,
}

impl Args {
    fn topics(&self) -> Vec<Topic> {
        let wanted = |topic: &&Topic| {
            self.topic.is_empty() || self.topic.iter().any(|name| name == topic.name)
        };
        topics::ALL.iter().filter(wanted).copied().collect()
    }

    fn wanted(&self) -> anyhow::Result<Wanted> {
        let names: Vec<String> = self.topics().iter().map(Topic::dead).collect();
        let mut select = self.select.clone();
        // Letters lie on the topic of dead letters; both of its names are understood.
        for offsets in &mut select.offsets {
            if !offsets.topic.ends_with(".dead") {
                offsets.topic.push_str(".dead");
            }
        }
        Ok(Wanted {
            selection: select.selection(&names)?,
            stage: self.stage.clone(),
            reason: self.reason.clone(),
        })
    }
}

/// Says which letters would be redriven.
///
/// # Errors
/// When Kafka refuses.
pub async fn plan(context: &Context, args: &Args, options: &Options) -> anyhow::Result<()> {
    let found = find(context, args).await?;
    report(&found);
    if found.letters.is_empty() {
        return Ok(());
    }
    context
        .say_time(Kind::Redrive, found.letters.len() as u64, options)
        .await?;
    if let Err(error) = allowed(&found.letters, args) {
        println!("but       {error}");
    }
    println!("nothing was changed; coach replay run redrive does it");
    Ok(())
}

/// Redrives.
///
/// # Errors
/// When Kafka refuses, or a stage's effects are not allowed.
pub async fn run(context: &Context, mut run: Run, mut args: Args) -> anyhow::Result<ExitCode> {
    // What is given up from now on is another redrive's.
    args.select.to.get_or_insert_with(pipeline::clock::now);
    let found = find(context, &args).await?;
    report(&found);
    if found.letters.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    allowed(&found.letters, &args)?;
    let asked = format!(
        "Send {} dead letters back? Is the cause mended?",
        found.letters.len()
    );
    if question::ask(&asked, run.yes, &context.progress(0))
        .await
        .is_err()
    {
        eprintln!("coach: nothing was sent");
        return Ok(ExitCode::FAILURE);
    }
    run.request = Request {
        what: What::Redrive(args.clone()),
        options: run.request.options,
    };
    let session = context.begin(&run, found.letters.len() as u64).await?;
    let shown = super::bar::show(session.progress(), "redriving");
    let begun = Instant::now();
    let how = (run.request.options.rate, args.with_effects);
    let done = redrive::redrive(
        &context.kafka,
        &context.runner,
        &session,
        found.letters,
        how,
    );
    let done = done.await;
    drop(shown);
    if let Ok(count) = &done {
        println!(
            "{count} letters were sent back; those that come back dead show in \
             coach replay plan redrive"
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    let done = done.map(|count| json!({ "records": count, "seconds": seconds }));
    conclude(&session, done.map_err(Into::into)).await
}

async fn find(context: &Context, args: &Args) -> anyhow::Result<Letters> {
    let history = journal::read(&context.kafka).await?;
    let (wanted, topics) = (args.wanted()?, args.topics());
    let redriven = &history.redriven;
    let letters = redrive::letters(&context.kafka, &context.decoder, &topics, &wanted, redriven);
    Ok(letters.await?)
}

/// Whether their stages may take them.
fn allowed(letters: &[Letter], args: &Args) -> anyhow::Result<()> {
    let stages: HashSet<&str> = letters.iter().map(|letter| letter.stage.as_str()).collect();
    for stage in stages {
        let Some(entry) = registry::named(stage) else {
            anyhow::bail!("stage {stage} is not in this program: its letters would stay unread");
        };
        if entry.effects == Effects::Outside && !args.with_effects {
            anyhow::bail!(
                "stage {stage} has effects outside: --with-effects lets it do for its letters \
                 what it could not do before; --stage selects another's"
            );
        }
    }
    Ok(())
}

fn report(found: &Letters) {
    let mut groups: BTreeMap<(&str, &str, &str), Group> = BTreeMap::new();
    for letter in &found.letters {
        let key = (
            letter.stage.as_str(),
            letter.reason.as_str(),
            letter.topic.as_str(),
        );
        groups.entry(key).or_default().add(letter);
    }
    println!("redrive   {} dead letters", found.letters.len());
    for ((stage, reason, topic), group) in &groups {
        println!(
            "          {} of {} calls, {}: {topic} through {stage}, reason {reason}, {} to {}",
            group.letters,
            group.calls.len(),
            context::bytes(group.bytes),
            time(group.oldest),
            time(group.newest),
        );
        println!("            like: {}", group.detail);
    }
    for (count, what) in [
        (found.before, "were redriven before: left out"),
        (
            found.unreadable,
            "are no event, and nobody knows their tenant: left out",
        ),
        (
            found.foreign,
            "are no dead letters of this installation: left out",
        ),
    ] {
        if count > 0 {
            println!("          {count} {what}");
        }
    }
}

#[derive(Default)]
struct Group<'a> {
    letters: u64,
    calls: HashSet<String>,
    bytes: u64,
    oldest: i64,
    newest: i64,
    detail: &'a str,
}

impl<'a> Group<'a> {
    fn add(&mut self, letter: &'a Letter) {
        if self.letters == 0 {
            self.oldest = letter.at();
            self.detail = &letter.detail;
        }
        self.letters += 1;
        self.calls.insert(letter.call());
        self.bytes += letter.bytes() as u64;
        self.oldest = self.oldest.min(letter.at());
        self.newest = self.newest.max(letter.at());
    }
}

/// A time in words.
pub fn time(ms: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs());
    humantime::format_rfc3339_seconds(time).to_string()
}
