//! The command line of Sales Coach: one binary, `coach`.

mod transcribe;

use clap::Parser;

/// Live coaching for sales calls.
#[derive(Debug, Parser)]
#[command(version)]
enum Coach {
    Transcribe(transcribe::Args),
}

fn main() -> anyhow::Result<()> {
    match Coach::parse() {
        Coach::Transcribe(args) => transcribe::run(args),
    }
}
