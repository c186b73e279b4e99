//! `coach analyze`: what lines of text say, without Kafka.

use std::io::{self, BufRead, Write};
use std::pin::pin;
use std::thread;

use anyhow::Context as _;
use consumers::insights::{Model, Reading, Settings};
use consumers::onnx;
use futures::{Stream, StreamExt, stream};
use schemas::{Language, ObjectionKind, SentimentLabel};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Lines read ahead of the one that is written next: enough to fill the model's batches.
const AHEAD: usize = 64;

/// Finds objections and sentiment: one JSON line for every line of text.
///
/// Reads lines {"text":"it's too expensive for us","language":"en"} from standard input and writes
/// for each, in the same order and as soon as it is known, a line {"language":"en",
/// "sentiment":{"label":"neutral","score":0.9},"objections":[{"kind":"price","score":0.97}]}.
///
/// The language (en, es, fr, zh) may be left out. Other fields are ignored, so the lines of
/// `coach transcribe` will do; empty lines are skipped. A line that cannot be read gives
/// {"error":"…","line":N} in its place, and exit code 1 at the end.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Insights model: a folder in the cache's models.
    #[arg(long, default_value_t = Settings::default().model)]
    model: String,
    /// Lines read at the same time; 0 for one a core.
    #[arg(long, default_value_t = 0)]
    workers: usize,
}

/// Runs the command.
///
/// # Errors
/// The model is missing or broken, standard input or output failed, or a line could not be read.
pub fn run(args: Args) -> anyhow::Result<()> {
    let model = Model::open(&onnx::cache_dir(), &args.model, args.workers)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot start the runtime")?;
    let (mut output, mut errors) = (io::stdout(), io::stderr());
    let count = runtime.block_on(analyze(&model, lines(io::stdin), &mut output, &mut errors))?;
    if count.failed > 0 {
        let Count { failed, lines } = count;
        anyhow::bail!("{failed} of {lines} lines could not be read");
    }
    Ok(())
}

/// How many lines there were.
#[derive(Debug, Default, PartialEq)]
struct Count {
    lines: usize,
    failed: usize,
}

/// A line of input, as bytes: it may be no text at all.
type Line = io::Result<Vec<u8>>;

/// Reads lines on a thread of its own, so that waiting for one keeps nobody from leaving.
fn lines<R: io::Read>(
    input: impl FnOnce() -> R + Send + 'static,
) -> impl Stream<Item = Line> + Unpin {
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        for line in io::BufReader::new(input()).split(b'\n') {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// Writes a line for every line, until the input ends or nobody reads the output any more.
async fn analyze(
    model: &Model,
    lines: impl Stream<Item = Line> + Unpin,
    output: &mut impl Write,
    errors: &mut impl Write,
) -> anyhow::Result<Count> {
    let mut count = Count::default();
    let answers = lines
        .enumerate()
        .filter_map(|(place, line)| async move {
            let blank = line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty());
            (!blank).then_some((place + 1, line))
        })
        .map(|(number, line)| async move {
            let line = line.context("standard input")?;
            Ok::<_, anyhow::Error>((number, answer(model, &line).await))
        })
        .buffered(AHEAD);
    let mut answers = pin!(answers);
    while let Some(answer) = answers.next().await {
        let (number, answer) = answer?;
        count.lines += 1;
        let line = match answer {
            Ok(analysis) => serde_json::to_string(&analysis)?,
            Err(error) => {
                count.failed += 1;
                let _ = writeln!(errors, "line {number}: {error}");
                serde_json::to_string(&Failure {
                    error,
                    line: number,
                })?
            }
        };
        match writeln!(output, "{line}").and_then(|()| output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            result => result.context("standard output")?,
        }
    }
    Ok(count)
}

/// A line of input.
#[derive(Deserialize)]
struct Question {
    text: String,
    language: Option<String>,
}

/// A line of output.
#[derive(Serialize)]
struct Answer {
    language: Option<Language>,
    sentiment: Sentiment,
    objections: Vec<Objection>,
}

#[derive(Serialize)]
struct Sentiment {
    label: SentimentLabel,
    score: f64,
}

#[derive(Serialize)]
struct Objection {
    kind: ObjectionKind,
    score: f64,
}

/// A line of output in place of an answer.
#[derive(Serialize)]
struct Failure {
    error: String,
    line: usize,
}

/// What the line says, or what is wrong with it.
async fn answer(model: &Model, line: &[u8]) -> Result<Answer, String> {
    let question: Question = serde_json::from_slice(line).map_err(|error| complaint(&error))?;
    let language = match question.language {
        Some(name) => Some(known(&name)?),
        None => None,
    };
    let reading = model.read_one(&question.text).await;
    let reading = reading.map_err(|error| error.to_string())?;
    Ok(Answer::new(language, &reading))
}

/// What serde says, with the column alone: its line is always the first.
fn complaint(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} at column {}", error.column())
}

fn known(name: &str) -> Result<Language, String> {
    name.parse()
        .map_err(|_| format!("unknown language {name:?}: expected en, es, fr or zh"))
}

impl Answer {
    fn new(language: Option<Language>, reading: &Reading) -> Self {
        let objection = |found: &schemas::Objection| Objection {
            kind: found.kind,
            score: rounded(found.score),
        };
        Self {
            language,
            sentiment: Sentiment {
                label: reading.sentiment.label,
                score: rounded(reading.sentiment.score),
            },
            objections: reading.objections.iter().map(objection).collect(),
        }
    }
}

/// Three places: more of a probability means nothing.
fn rounded(score: f32) -> f64 {
    (f64::from(score) * 1_000.0).round() / 1_000.0
}
