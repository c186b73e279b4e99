//! `coach topics`: the topic table made real.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pipeline::topics::{self, Outcome};

use crate::start;

/// Creates and describes the topics.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create every topic of the table and its dead letters that does not exist yet
    Create,
    /// List the topic table: partitions and retention as they should be
    List,
    /// Describe the topics as they are on the brokers
    Describe,
}

/// Runs one of the subcommands.
///
/// # Errors
/// When Kafka refuses.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = start::config(path)?;
    start::log(&config)?;
    let kafka = start::kafka(&config)?;
    match args.command {
        Command::List => {
            println!("{:<28} {:>10}  retention", "topic", "partitions");
            for topic in topics::wanted(&kafka) {
                let retention = days(topic.retention);
                println!("{:<28} {:>10}  {retention}", topic.name, topic.partitions);
            }
        }
        Command::Create => {
            kafka.wait_until_reachable().await?;
            for (name, outcome) in topics::create(&kafka).await? {
                let outcome = match outcome {
                    Outcome::Created => "created".to_owned(),
                    Outcome::Kept => "is there".to_owned(),
                    Outcome::Differs(how) => format!("is left as it is: {}", how.join(", ")),
                };
                println!("{name:<28} {outcome}");
            }
        }
        Command::Describe => {
            kafka.wait_until_reachable().await?;
            println!(
                "{:<28} {:>10} {:>8} {:>10}  retention",
                "topic", "partitions", "replicas", "offsets"
            );
            for topic in topics::describe(&kafka).await? {
                if !topic.exists {
                    println!("{:<28} missing: run `coach topics create`", topic.name);
                    continue;
                }
                let retention = match u64::try_from(topic.retention_ms) {
                    Ok(ms) => days(Duration::from_millis(ms)),
                    Err(_) => "for ever".to_owned(),
                };
                println!(
                    "{:<28} {:>10} {:>8} {:>10}  {retention}",
                    topic.name, topic.partitions, topic.replication, topic.offsets
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn days(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
