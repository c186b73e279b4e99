//! The command line of Sales Coach: one binary, `coach`, one file a subcommand.

mod analyze;
mod call;
mod config;
mod crm;
mod demo;
mod gateway;
mod replay;
mod run;
mod shutdown;
mod start;
mod tail;
mod token;
mod topics;
mod transcribe;
mod transcript;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Live coaching for sales calls.
///
/// Call audio and transcripts stream into Kafka; stages transcribe them, find sentiment and
/// objections, and write coaching tips, which the rep sees on the softphone while the customer is
/// still on the line.
///
/// New here? `coach demo` plays a sample call through all of it in one process.
#[derive(Parser)]
#[command(
    name = "coach",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    /// Configuration file (TOML); without it ./sales-coach.toml, then /etc/sales-coach/.
    #[arg(long, global = true, value_name = "FILE", env = "SALES_COACH_CONFIG")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play a sample call, or your own, through the whole pipeline in this one process
    Demo(demo::Args),
    /// Run stages against Kafka and the database; each alone in its own process is how it scales
    Run(run::Args),
    /// Serve softphones: tips out, feedback in
    Gateway(gateway::Args),
    /// Stream a recorded call's audio into Kafka
    Call(call::Args),
    /// Stream ready transcripts of another system into Kafka
    Transcript(transcript::Args),
    /// Print a topic's events as JSON lines
    Tail(tail::Args),
    /// Create and describe the topics
    Topics(topics::Args),
    /// Rebuild tables, redrive dead letters, try a playbook on recorded calls; harms nothing live
    Replay(replay::Args),
    /// Print a token with which a rep's softphone connects to the gateway
    Token(token::Args),
    /// Notes of calls in the tenants' CRMs: check, preview, status, erase
    Crm(crm::Args),
    /// Transcribe a recording offline: one JSON line an utterance
    Transcribe(transcribe::Args),
    /// Find sentiment and objections offline: JSON lines in, JSON lines out
    Analyze(analyze::Args),
    /// Check or show the configuration
    Config(config::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("coach: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Demo(args) => block_on(demo::run(args, config)),
        Command::Run(args) => block_on(run::run(args, config)),
        Command::Gateway(args) => block_on(gateway::run(args, config)),
        Command::Call(args) => block_on(call::run(args, config)),
        Command::Transcript(args) => block_on(transcript::run(args, config)),
        Command::Tail(args) => block_on(tail::run(args, config)),
        Command::Topics(args) => block_on(topics::run(args, config)),
        Command::Crm(args) => block_on(crm::run(args, config)),
        Command::Replay(args) => block_on(replay::run(args, config)),
        Command::Token(args) => token::run(&args, config),
        Command::Transcribe(args) => transcribe::run(args).map(|()| ExitCode::SUCCESS),
        Command::Analyze(args) => analyze::run(args).map(|()| ExitCode::SUCCESS),
        Command::Config(args) => config::run(args, config),
    }
}

/// Runs a command to its end. A thread that still waits for Kafka or the terminal does not hold
/// up the process.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(command);
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}
