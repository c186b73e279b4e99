//! `coach replay cancel`: ends a replay for good.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pipeline::clock;
use pipeline::replay::journal::{self, Journal, Outcome, Standing, Step};
use pipeline::replay::{Kind, shadow};
use serde_json::Value;

use super::context::{Context, who};
use super::{question, rebuild, shadow as trial, status};

/// How often it is looked whether the replay has ended.
const LOOK: Duration = Duration::from_secs(1);

/// Asks the replay to end and waits for it; clears away after one whose process is gone.
///
/// # Errors
/// When Kafka or the database refuses, or there is no such replay.
pub async fn run(context: &Context, id: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let history = journal::read(&context.kafka).await?;
    let Some(replay) = history.find(id) else {
        anyhow::bail!("there is no replay {id}: coach replay status lists them");
    };
    let kind = replay.kind;
    match (replay.standing(clock::now()), kind) {
        (Standing::Ended(Outcome::Finished | Outcome::Failed), Kind::Shadow) => {
            shadow::delete_topics(&context.kafka, &trial::own_topics(context, id)).await?;
            eprintln!("coach: the topics of {id} are deleted");
            return Ok(ExitCode::SUCCESS);
        }
        (Standing::Ended(Outcome::Finished | Outcome::Cancelled), _) => {
            anyhow::bail!("{id} is over: {}", status::says(replay))
        }
        _ => {}
    }
    eprintln!("coach: {id}: {}", status::says(replay));
    let asked = match kind {
        Kind::Redrive => "End it? What was sent back stays sent back.",
        Kind::Rebuild => "End it? Nothing of it is in place; its own tables go.",
        Kind::Shadow => "End it? Its own topics go.",
    };
    if question::ask(asked, yes, &context.progress(0))
        .await
        .is_err()
    {
        eprintln!("coach: nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let journal = Journal::open(&context.kafka, Arc::clone(&context.codec)).await?;
    journal.write(id, Step::CancelAsked { by: who() }).await?;
    loop {
        let history = journal::read(&context.kafka).await?;
        let standing = history.find(id).map(|replay| replay.standing(clock::now()));
        match standing {
            Some(Standing::Running) => {}
            Some(Standing::Ended(Outcome::Cancelled)) => break,
            Some(Standing::Ended(Outcome::Finished)) => {
                eprintln!("coach: {id} had just finished");
                return Ok(ExitCode::FAILURE);
            }
            // Nobody is there to do it.
            _ => {
                clear(context, id, kind).await?;
                let step = Step::Ended {
                    outcome: Outcome::Cancelled,
                    result: Value::Null,
                };
                journal.write(id, step).await?;
                break;
            }
        }
        if context
            .stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_none()
        {
            eprintln!("coach: {id} is asked to end and does so by itself");
            return Ok(ExitCode::from(130));
        }
    }
    eprintln!("coach: replay {id} is cancelled");
    Ok(ExitCode::SUCCESS)
}

/// Clears away what a replay made for itself.
async fn clear(context: &Context, id: &str, kind: Kind) -> anyhow::Result<()> {
    match kind {
        Kind::Rebuild => rebuild::discard(context, id).await,
        Kind::Shadow => {
            let topics = trial::own_topics(context, id);
            Ok(shadow::delete_topics(&context.kafka, &topics).await?)
        }
        Kind::Redrive => Ok(()),
    }
}
