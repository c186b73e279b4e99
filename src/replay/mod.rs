//! `coach replay`: old records read again on purpose, without harm.

mod bar;
mod cancel;
mod context;
mod question;
mod rebuild;
mod redrive;
mod select;
mod shadow;
mod status;

use std::path::Path;
use std::process::ExitCode;

use pipeline::replay::journal::{self, Standing};
use pipeline::replay::{Kind, session};
use serde::{Deserialize, Serialize};

use crate::shutdown;
use context::Context;

/// Reads old records again on purpose: rebuilds the reporting database, sends dead letters back
/// through their stage, tries a playbook or model on recorded calls.
///
/// Nothing of a replay reaches a softphone or a CRM. `plan` changes nothing; `run` asks before
/// anything live changes; Ctrl-C is safe at every moment, and `resume` goes on from there. Every
/// replay is in the journal (topic coach.replays), which `status` shows.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say what a replay would read and do; changes nothing
    Plan {
        #[command(subcommand)]
        what: What,
        #[command(flatten)]
        options: Options,
    },
    /// Run a replay; asks before anything live changes
    Run {
        #[command(subcommand)]
        what: What,
        #[command(flatten)]
        options: Options,
    },
    /// Go on with a replay that stopped or whose process is gone
    Resume {
        /// Its id, as `status` shows it
        id: String,
        /// Do not ask before anything live changes
        #[arg(long)]
        yes: bool,
    },
    /// Show the replays there were, or one of them
    Status {
        /// Its id; without it, all
        id: Option<String>,
        /// One JSON object a replay
        #[arg(long)]
        json: bool,
    },
    /// End a replay for good and clear away what it made for itself
    Cancel {
        /// Its id, as `status` shows it
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// How a replay is run.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct Options {
    /// At most so many records a second
    #[arg(long, global = true, value_name = "RECORDS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Do not ask before anything live changes
    #[arg(long, global = true)]
    #[serde(skip)]
    yes: bool,
}

/// What is replayed.
#[derive(Clone, Debug, clap::Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// The reporting tables from the topics, checked, then put in the live ones' place
    Rebuild(rebuild::Args),
    /// Dead letters back through the stage that gave them up, after a fix
    Redrive(redrive::Args),
    /// Recorded calls through a stage with another playbook or model, and what would change
    Shadow(shadow::Args),
}

/// What the journal keeps of what was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    #[serde(flatten)]
    what: What,
    options: Options,
}

impl What {
    fn kind(&self) -> Kind {
        match self {
            Self::Rebuild(_) => Kind::Rebuild,
            Self::Redrive(_) => Kind::Redrive,
            Self::Shadow(_) => Kind::Shadow,
        }
    }
}

/// A replay about to run, anew or again.
pub struct Run {
    /// Its id.
    id: String,
    request: Request,
    yes: bool,
    /// Where it goes on.
    places: Vec<journal::Place>,
}

/// Runs one of the subcommands.
///
/// # Errors
/// When Kafka or the database refuses, or there is no such replay.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    let context = tokio::select! {
        context = Context::open(path, stop.clone()) => context?,
        () = stop.cancelled() => return Ok(ExitCode::from(130)),
    };
    match args.command {
        Command::Plan { what, options } => {
            let planned = match what {
                What::Rebuild(args) => rebuild::plan(&context, &args, &options).await,
                What::Redrive(args) => redrive::plan(&context, &args, &options).await,
                What::Shadow(args) => shadow::plan(&context, &args, &options).await,
            };
            planned.map(|()| ExitCode::SUCCESS)
        }
        Command::Run { what, options } => {
            let run = Run {
                id: session::new_id(what.kind()),
                yes: options.yes,
                request: Request { what, options },
                places: Vec::new(),
            };
            start(&context, run).await
        }
        Command::Resume { id, yes } => {
            let run = resume(&context, id, yes).await?;
            start(&context, run).await
        }
        Command::Status { id, json } => status::run(&context, id.as_deref(), json).await,
        Command::Cancel { id, yes } => cancel::run(&context, &id, yes).await,
    }
}

async fn start(context: &Context, run: Run) -> anyhow::Result<ExitCode> {
    match run.request.what.clone() {
        What::Rebuild(args) => rebuild::run(context, run, args).await,
        What::Redrive(args) => redrive::run(context, run, args).await,
        What::Shadow(args) => shadow::run(context, run, args).await,
    }
}

/// The replay of that id, as it is in the journal, to go on.
async fn resume(context: &Context, id: String, yes: bool) -> anyhow::Result<Run> {
    let history = journal::read(&context.kafka).await?;
    let Some(replay) = history.find(&id) else {
        anyhow::bail!("there is no replay {id}: coach replay status lists them");
    };
    match replay.standing(pipeline::clock::now()) {
        Standing::Running => anyhow::bail!(
            "{id} is running, as {} began it; coach replay cancel {id} ends it",
            replay.by
        ),
        Standing::Ended(journal::Outcome::Finished) => anyhow::bail!("{id} has finished"),
        Standing::Ended(journal::Outcome::Cancelled) => {
            anyhow::bail!("{id} was cancelled: run it anew")
        }
        Standing::Ended(journal::Outcome::Failed) | Standing::Stopped => {}
    }
    Ok(Run {
        request: serde_json::from_value(replay.request.clone())?,
        places: replay.places.clone(),
        id,
        yes,
    })
}
