//! `coach config`: checks and shows the configuration.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;

use consumers::registry;
use pipeline::config::{self, Config, ConfigSection};

/// Checks or shows the configuration: file, environment and defaults together.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Report every error at once
    Check,
    /// Print what is in force as TOML, secrets hidden
    Show,
}

/// Every section of the configuration.
pub fn sections() -> Vec<ConfigSection> {
    config::SECTIONS
        .into_iter()
        .chain(registry::STAGES.iter().map(|entry| entry.section))
        .collect()
}

/// Runs one of the subcommands.
///
/// # Errors
/// Every error of the configuration at once.
pub fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Config::load(path, std::env::vars())?;
    match args.command {
        Command::Check => {
            config.check(&sections())?;
            match config.file() {
                Some(file) => println!("{} and the environment are fine", file.display()),
                None => println!("no file; the environment and the defaults are fine"),
            }
        }
        Command::Show => print!("{}", config.show(&sections())?),
    }
    Ok(ExitCode::SUCCESS)
}
