//! `coach call`: streams a recorded call's audio into Kafka.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use producers::call::{Call, Pace};
use producers::{audio, wav};
use schemas::Speaker;

use crate::{shutdown, start};

/// Streams a recorded call's audio into Kafka, as if it came from the line.
///
/// WAV of one or two channels, any sample format and rate. With two channels the rep is on the
/// left; a single channel is heard as the customer's.
#[derive(clap::Args)]
pub struct Args {
    /// The recording
    file: PathBuf,
    #[command(flatten)]
    about: About,
    /// Who speaks on each channel, when it is not rep,customer
    #[arg(long, value_delimiter = ',', value_name = "SPEAKER,SPEAKER")]
    channels: Option<Vec<Speaker>>,
    /// 1 is real time, 4 four times as fast, 0 as fast as it goes
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
}

/// What is known of a call before its first word.
#[derive(clap::Args)]
pub struct About {
    /// Id of the call; a new one without it
    #[arg(long)]
    pub call: Option<String>,
    /// Customer organisation the call belongs to
    #[arg(long, default_value = "demo")]
    pub tenant: String,
    /// Id of the rep
    #[arg(long, default_value = "rep-1")]
    pub rep: String,
    /// The customer's name or number; sealed before it leaves this process
    #[arg(long)]
    pub customer: Option<String>,
    /// Language spoken
    #[arg(long, default_value = "auto", value_parser = ["auto", "en", "es", "fr", "zh"])]
    pub language: String,
}

impl About {
    /// A call of that source and these channels.
    pub fn call(&self, source: &'static str, channels: Vec<Speaker>) -> Call {
        Call {
            id: self
                .call
                .clone()
                .unwrap_or_else(|| format!("call-{}", uuid::Uuid::new_v4())),
            tenant: self.tenant.clone(),
            rep: self.rep.clone(),
            customer: self.customer.clone(),
            language: self.language.clone(),
            channels,
            source,
        }
    }
}

/// Reads `--speed`.
///
/// # Errors
/// When it is no number from 0 on.
pub fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 0.0 => Ok(speed),
        _ => Err("a number from 0 (as fast as it goes) on".to_owned()),
    }
}

/// Streams the call; prints its id first and what was played at the end.
///
/// # Errors
/// When the file cannot be played or the call cannot be written.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = start::config(path)?;
    start::log(&config)?;
    let audio = audio::read(&args.file)?;
    if audio.missing > 0 {
        let seconds = audio.missing as f64 / f64::from(audio.rate);
        eprintln!("coach: the file is cut off: {seconds:.1} s are missing, playing what is there");
    }
    let recording = wav::Recording::new(&audio)?;
    let speakers = args
        .channels
        .clone()
        .unwrap_or_else(|| recording.speakers());
    anyhow::ensure!(
        speakers.len() == recording.channels(),
        "--channels names {} speakers, the recording has {} channels",
        speakers.len(),
        recording.channels()
    );
    let cancel = shutdown::on_signal()?;
    let (producer, sealer) = tokio::select! {
        ready = start::producer(&config) => ready?,
        () = cancel.cancelled() => return Ok(ExitCode::from(130)),
    };
    let call = args.about.call("wav", speakers);
    println!("{}", call.id);
    let pace = Pace::start(args.speed);
    let story = wav::begin(call, pipeline::clock::now(), &producer, &sealer).await?;
    let played = wav::play(&recording, story, pace, &cancel).await?;
    let seconds = played.duration_ms as f64 / 1000.0;
    if played.whole {
        eprintln!("coach: {seconds:.1} s of audio are in calls.audio");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("coach: stopped after {seconds:.1} s; the call is ended as aborted");
    Ok(ExitCode::from(130))
}
