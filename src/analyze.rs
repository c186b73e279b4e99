//! `coach analyze`: what lines of text say, without Kafka.

use std::io::{self, BufRead, Write};
use std::pin::pin;
use std::thread;

use anyhow::Context as _;
use consumers::insights::{Model, Passage, Reading, Settings, Turn};
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
/// "sentiment":{"label":"neutral","score":0.9},"objections":[{"kind":"price","score":0.97}],
/// "interest":false}. Interest is a buying signal.
///
/// The turn before makes short answers clear: "before":{"speaker":"rep","text":"is it the price?"}.
/// The language (en, es, fr, zh) and the turn before may be left out. Text in another language is
/// neutral, with the score of a guess, and raises nothing. Other fields are ignored, so the lines of
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
    before: Option<Turn>,
}

/// A line of output.
#[derive(Serialize)]
struct Answer {
    language: Option<Language>,
    sentiment: Sentiment,
    objections: Vec<Objection>,
    interest: bool,
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
    let passage = Passage {
        text: question.text,
        before: question.before,
    };
    let reading = model.read_one(passage).await;
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
            interest: reading.interest,
        }
    }
}

/// Three places: more of a probability means nothing.
fn rounded(score: f32) -> f64 {
    (f64::from(score) * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use super::*;

    /// The model of the cache: `make models` brings it.
    fn model() -> Model {
        Model::open(&onnx::cache_dir(), "insights", 2).unwrap()
    }

    /// What comes out of this input, line by line, what goes to standard error, and the count.
    async fn outcome(input: &'static [u8]) -> (Vec<Value>, String, Count) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let count = analyze(&model(), lines(move || input), &mut output, &mut errors)
            .await
            .unwrap();
        let output = String::from_utf8(output).unwrap();
        let parsed = output
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (parsed.collect(), String::from_utf8(errors).unwrap(), count)
    }

    #[tokio::test]
    async fn a_line_tells_language_sentiment_and_objections() {
        let input = b"{\"text\":\"that's far too expensive for us\",\"language\":\"en\"}\n";
        let (answers, errors, count) = outcome(input).await;
        assert_eq!((errors.as_str(), count.failed), ("", 0));
        assert_eq!(answers[0]["language"], "en");
        assert_eq!(answers[0]["objections"][0]["kind"], "price");
        let score = answers[0]["sentiment"]["score"].as_f64().unwrap();
        assert!((1.0 / 3.0..=1.0).contains(&score));
        let mut fields: Vec<_> = answers[0].as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(fields, ["interest", "language", "objections", "sentiment"]);
    }

    #[tokio::test]
    async fn a_language_may_be_left_out_and_other_fields_are_ignored() {
        let (answers, _, count) = outcome(b"{\"text\":\"hello\",\"start_ms\":40}").await;
        assert_eq!(
            count,
            Count {
                lines: 1,
                failed: 0
            }
        );
        assert_eq!(answers[0]["language"], Value::Null);
    }

    #[tokio::test]
    async fn lines_that_cannot_be_read_are_named_in_their_place_and_the_rest_goes_on() {
        let input = b"{\"text\":\"hello\",\"language\":\"fr\"}\nnonsense\n\n{\"language\":\"en\"}\n\
            {\"text\":\"hallo\",\"language\":\"de\"}\n\xff\xfe\n{\"text\":\"\",\"language\":\"zh\"}\n";
        let (answers, errors, count) = outcome(input).await;
        assert_eq!(
            count,
            Count {
                lines: 6,
                failed: 4
            }
        );
        assert_eq!(answers[0]["language"], "fr");
        let failed: Vec<_> = answers[1..5]
            .iter()
            .map(|line| line["line"].as_u64())
            .collect();
        assert_eq!(failed, [Some(2), Some(4), Some(5), Some(6)]);
        assert_eq!(answers[2]["error"], "missing field `text` at column 17");
        let german = "unknown language \"de\": expected en, es, fr or zh";
        assert_eq!(answers[3]["error"], german);
        assert_eq!(answers[5]["sentiment"]["label"], "neutral");
        assert_eq!(errors.lines().count(), 4);
        assert!(errors.contains(&format!("line 5: {german}\n")), "{errors}");
    }

    #[tokio::test]
    async fn the_order_is_kept_over_many_lines() {
        let mut input = String::new();
        for number in 0..200 {
            let language = Language::ALL[number % 4];
            // Longer and shorter lines, so that they are not done in order by chance.
            let text = "hello ".repeat(1 + number * 7 % 30);
            input += &format!("{{\"text\":\"{text}\",\"language\":\"{language}\"}}\n");
        }
        let (answers, _, count) = outcome(input.leak().as_bytes()).await;
        assert_eq!(
            count,
            Count {
                lines: 200,
                failed: 0
            }
        );
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(answer["language"], Language::ALL[number % 4].as_str());
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_is_answered_before_the_next_one_comes() {
        let (sender, mut receiver) = mpsc::channel(1);
        let input = stream::poll_fn(move |context| receiver.poll_recv(context));
        let output = Shared::default();
        let mut written = output.clone();
        let model = model();
        let mut nowhere = io::sink();
        let analysis = analyze(&model, input, &mut written, &mut nowhere);
        let talk = async {
            for number in 1..=3 {
                let line = br#"{"text":"we have no budget"}"#.to_vec();
                sender.send(Ok(line)).await.unwrap();
                let deadline = Instant::now() + Duration::from_secs(60);
                let count = || {
                    output
                        .0
                        .lock()
                        .unwrap()
                        .iter()
                        .filter(|b| **b == b'\n')
                        .count()
                };
                while count() < number {
                    assert!(Instant::now() < deadline, "no answer to line {number}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            drop(sender);
        };
        let (count, ()) = tokio::join!(analysis, talk);
        assert_eq!(
            count.unwrap(),
            Count {
                lines: 3,
                failed: 0
            }
        );
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn it_ends_quietly_when_nobody_reads_the_output() {
        let endless = || io::Read::chain(&b"{\"text\":\"hi\"}\n"[..], io::repeat(b'\n'));
        let mut errors = Vec::new();
        let count = analyze(&model(), lines(endless), &mut Closed, &mut errors).await;
        assert_eq!(count.unwrap().lines, 1);
        assert_eq!(errors, b"");
    }
}
