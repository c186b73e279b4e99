//! `coach transcript`: streams ready transcripts of another system into Kafka.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use producers::call::Pace;
use producers::transcript::Transcripts;
use schemas::Speaker;
use tokio::io::BufReader;

use crate::call::{About, speed};
use crate::{shutdown, start};

/// Streams ready transcripts of another system into the transcript topic.
///
/// One JSON object a line, as `coach transcribe` prints them:
/// {"speaker":"customer","start_ms":1200,"end_ms":2900,"language":"en","text":"…"}.
/// A file may hold several calls: name the call on each line with "call" (and "tenant", "rep",
/// "customer" on its first); {"call":"…","ended":true} ends one before the end of the file. Lines
/// that cannot be read are named and passed over.
#[derive(clap::Args)]
pub struct Args {
    /// The transcript; - is standard input
    file: PathBuf,
    #[command(flatten)]
    about: About,
    /// 1 is real time, 4 four times as fast, 0 as fast as it goes
    #[arg(long, default_value_t = 0.0, value_parser = speed)]
    speed: f64,
}

/// Streams the transcripts; prints what was written.
///
/// # Errors
/// When the file cannot be read or a call cannot be written.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = start::config(path)?;
    start::log(&config)?;
    let input: Box<dyn tokio::io::AsyncRead + Unpin> = if args.file.as_os_str() == "-" {
        Box::new(tokio::io::stdin())
    } else {
        let file = tokio::fs::File::open(&args.file).await;
        Box::new(
            file.map_err(|error| anyhow::anyhow!("cannot read {}: {error}", args.file.display()))?,
        )
    };
    let cancel = shutdown::on_signal()?;
    let (producer, sealer) = tokio::select! {
        ready = start::producer(&config) => ready?,
        () = cancel.cancelled() => return Ok(ExitCode::from(130)),
    };
    let transcripts = Transcripts {
        producer: &producer,
        sealer: &sealer,
        default: args
            .about
            .call("transcript", vec![Speaker::Rep, Speaker::Customer]),
        started_at: pipeline::clock::now(),
        pace: Pace::start(args.speed),
    };
    let streamed = transcripts
        .stream(BufReader::new(input), &cancel, |bad| {
            eprintln!("coach: line {}: {}", bad.line, bad.error);
        })
        .await?;
    eprintln!(
        "coach: {} utterances of {} calls are in calls.transcript, {} lines passed over",
        streamed.utterances,
        streamed.calls,
        streamed.bad.len()
    );
    if cancel.is_cancelled() {
        return Ok(ExitCode::from(130));
    }
    Ok(if streamed.bad.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
