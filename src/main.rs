//! The command line of Sales Coach: one binary, `coach`.

mod analyze;
mod transcribe;

use clap::Parser;

/// Live coaching for sales calls.
#[derive(Debug, Parser)]
#[command(version)]
enum Coach {
    Analyze(analyze::Args),
    Transcribe(transcribe::Args),
}

fn main() -> anyhow::Result<()> {
    match Coach::parse() {
        Coach::Analyze(args) => analyze::run(args),
        Coach::Transcribe(args) => transcribe::run(args),
    }
}
