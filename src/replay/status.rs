//! `coach replay status`: the replays there were.

use std::process::ExitCode;

use pipeline::clock;
use pipeline::replay::journal::{self, Outcome, Replay, Standing};
use serde_json::json;

use super::context::Context;
use super::redrive::time;

/// Shows all replays, or one of them.
///
/// # Errors
/// When Kafka refuses, or there is no such replay.
pub async fn run(context: &Context, id: Option<&str>, as_json: bool) -> anyhow::Result<ExitCode> {
    let history = journal::read(&context.kafka).await?;
    let wanted: Vec<&Replay> = match id {
        None => history.replays.iter().collect(),
        Some(id) => match history.find(id) {
            Some(replay) => vec![replay],
            None => anyhow::bail!("there is no replay {id}: coach replay status lists them"),
        },
    };
    if wanted.is_empty() {
        eprintln!("coach: there has been no replay");
    }
    for replay in &wanted {
        if as_json {
            println!("{}", line(replay));
        } else if id.is_some() {
            one(replay)?;
        } else {
            println!(
                "{:<32} {}  {:<24} {}",
                replay.id,
                time(replay.begun_at),
                replay.by,
                says(replay)
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How it stands, in words.
pub fn says(replay: &Replay) -> String {
    let far = format!("{} of about {} records", replay.done, replay.total);
    match replay.standing(clock::now()) {
        Standing::Running => format!("running, {far}"),
        Standing::Stopped => format!("stopped, {far}: coach replay resume {}", replay.id),
        Standing::Ended(Outcome::Finished) => format!("finished, {} records", replay.done),
        Standing::Ended(Outcome::Cancelled) => "cancelled".to_owned(),
        Standing::Ended(Outcome::Failed) => {
            format!(
                "failed: coach replay resume {} once the cause is mended",
                replay.id
            )
        }
    }
}

fn one(replay: &Replay) -> anyhow::Result<()> {
    println!("replay    {}", replay.id);
    println!("by        {}", replay.by);
    println!("began     {}", time(replay.begun_at));
    println!("heard of  {}", time(replay.heard_at));
    println!("stands    {}", says(replay));
    println!("asked     {}", serde_json::to_string(&replay.request)?);
    if let Some((_, result)) = &replay.ended {
        println!("result    {}", serde_json::to_string_pretty(result)?);
    }
    Ok(())
}

fn line(replay: &Replay) -> serde_json::Value {
    let standing = match replay.standing(clock::now()) {
        Standing::Running => "running",
        Standing::Stopped => "stopped",
        Standing::Ended(Outcome::Finished) => "finished",
        Standing::Ended(Outcome::Cancelled) => "cancelled",
        Standing::Ended(Outcome::Failed) => "failed",
    };
    json!({
        "id": replay.id,
        "kind": replay.kind,
        "by": replay.by,
        "begun_at": replay.begun_at,
        "heard_at": replay.heard_at,
        "standing": standing,
        "done": replay.done,
        "total": replay.total,
        "request": replay.request,
        "result": replay.ended.as_ref().map(|(_, result)| result),
    })
}
