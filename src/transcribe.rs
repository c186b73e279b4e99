//! `coach transcribe`: a recording's words, without Kafka.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use consumers::onnx;
use consumers::script::Script;
use consumers::transcription::recording::Recorder;
use consumers::transcription::{Settings, Spelling, TenantSettings, Vocabulary};
use producers::audio;
use schemas::Language;

/// Writes down a recording: one JSON line an utterance.
///
/// Takes WAV files of one or two channels (with two, the rep is left and the customer right), any
/// sample format and rate. Silence, music and noise give no lines.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recording.
    #[arg(value_name = "FILE.wav")]
    file: PathBuf,
    /// Language spoken: auto, en, es, fr or zh. With auto, each side's language is found and
    /// followed when it changes.
    #[arg(long, default_value = "auto", value_parser = language)]
    language: Spoken,
    /// Whisper model: a folder in the cache's models.
    #[arg(long, default_value_t = Settings::default().model)]
    model: String,
    /// Names of products and competitors to listen for, one a line, spelled as they are to be
    /// written; empty lines and those that begin with # are none.
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    /// Script in which Mandarin is written: simplified or traditional.
    #[arg(long, default_value = "simplified", value_parser = script)]
    script: Script,
    /// Utterances transcribed at the same time; 0 for one a core.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Writes seconds of audio, of time and of processor time to standard error.
    #[arg(long)]
    stats: bool,
}

/// A language, or none for `auto`.
#[derive(Debug, Clone, Copy)]
struct Spoken(Option<Language>);

fn language(text: &str) -> Result<Spoken, String> {
    if text == "auto" {
        return Ok(Spoken(None));
    }
    text.parse()
        .map(|language| Spoken(Some(language)))
        .map_err(|_| format!("unknown language {text:?}: expected auto, en, es, fr or zh"))
}

fn script(text: &str) -> Result<Script, String> {
    match text {
        "simplified" => Ok(Script::Simplified),
        "traditional" => Ok(Script::Traditional),
        _ => Err(format!(
            "unknown script {text:?}: expected simplified or traditional"
        )),
    }
}

fn vocabulary(path: &Path) -> anyhow::Result<Vocabulary> {
    let named = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(named)?;
    Vocabulary::from_lines(&text).with_context(named)
}

/// Runs the command.
///
/// # Errors
/// A model or the file is missing or broken.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = Settings {
        model: args.model,
        workers: args.workers,
        ..Settings::default()
    };
    let spelling = TenantSettings {
        script: args.script,
        vocabulary: args
            .vocabulary
            .as_deref()
            .map_or_else(|| Ok(Vocabulary::default()), vocabulary)?,
    };
    let mut recorder = Recorder::open(&onnx::cache_dir(), settings, Spelling::from(&spelling))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot start the runtime")?;
    let recording = audio::read(&args.file)?;
    if recording.missing > 0 {
        let missing = recording.missing as f64 / f64::from(recording.rate);
        eprintln!(
            "{}: cut off, {missing:.1} s are missing",
            args.file.display()
        );
    }
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut written = Ok(());
    let print = |line| {
        if written.is_ok() {
            written = serde_json::to_string(&line)
                .map_err(io::Error::from)
                .and_then(|line| writeln!(io::stdout(), "{line}"));
        }
    };
    runtime.block_on(recorder.transcribe(&recording, args.language.0, print))?;
    match written {
        // Whoever read the lines has had enough of them.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other.context("cannot write to standard output")?,
    }
    if args.stats {
        let length = recording.channels.first().map_or(0, Vec::len);
        let stats = serde_json::json!({
            "audio_seconds": length as f64 / f64::from(recording.rate),
            "seconds": began.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds().zip(cpu).map(|(now, then)| now - then),
        });
        eprintln!("{stats}");
    }
    Ok(())
}

/// Processor time of this process so far, where the system tells.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the command's name, which may hold spaces; times are in hundredths.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) / 100.0)
}
