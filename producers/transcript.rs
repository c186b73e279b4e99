//! Ready transcripts of another system, as JSON lines, into `calls.transcript`.

use std::collections::BTreeMap;

use pipeline::producer::Producer;
use pipeline::{Field, Sealer};
use schemas::{EndReason, Language, Speaker, Utterance, count_words};
use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio_util::sync::CancellationToken;

use crate::call::{Call, CallError, Pace, Story};

/// One line of a transcript: what `coach transcribe` prints, with the call it belongs to where a
/// file holds several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    call: Option<String>,
    tenant: Option<String>,
    rep: Option<String>,
    customer: Option<String>,
    channel: Option<i32>,
    speaker: Option<Speaker>,
    start_ms: Option<i64>,
    end_ms: Option<i64>,
    language: Option<String>,
    text: Option<String>,
    /// The call is over; the line needs nothing else.
    #[serde(default)]
    ended: bool,
}

/// A line that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it. Never quotes the line.
    pub error: String,
}

/// What was streamed.
#[derive(Debug, Default)]
pub struct Streamed {
    /// Calls that were begun.
    pub calls: usize,
    /// Utterances written.
    pub utterances: usize,
    /// Lines passed over.
    pub bad: Vec<BadLine>,
}

/// Why streaming stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranscriptError {
    /// The input cannot be read.
    #[error("cannot read the transcript: {0}")]
    Read(#[from] std::io::Error),
    /// A call cannot be written.
    #[error(transparent)]
    Call(#[from] CallError),
}

struct Open<'a> {
    story: Story<'a>,
    utterances: i32,
    end_ms: i64,
}

/// Streams transcripts; see [`Transcripts::stream`].
pub struct Transcripts<'a> {
    /// Writes the events.
    pub producer: &'a Producer,
    /// Seals the words.
    pub sealer: &'a Sealer,
    /// What a line does not say of its call.
    pub default: Call,
    /// Milliseconds since 1970 at which the calls begin.
    pub started_at: i64,
    /// How fast.
    pub pace: Pace,
}

impl<'a> Transcripts<'a> {
    /// Streams JSON lines into `calls.transcript`, each when its last word is due. A line that
    /// cannot be read is passed over and reported to `bad` at once; the rest goes on. Calls end
    /// with their `ended` line, at the latest with the input; on `cancel` as aborted.
    ///
    /// # Errors
    /// When the input cannot be read or Kafka refuses a record.
    pub async fn stream(
        &self,
        input: impl AsyncBufRead + Unpin,
        cancel: &CancellationToken,
        mut bad: impl FnMut(&BadLine),
    ) -> Result<Streamed, TranscriptError> {
        let mut lines = input.lines();
        let mut open: BTreeMap<String, Open<'a>> = BTreeMap::new();
        let mut streamed = Streamed::default();
        let mut number = 0;
        let reason = loop {
            let line = tokio::select! {
                biased;
                () = cancel.cancelled() => break EndReason::Aborted,
                line = lines.next_line() => line?,
            };
            let Some(line) = line else {
                break EndReason::Hangup;
            };
            number += 1;
            if line.trim().is_empty() {
                continue;
            }
            match parse(&line) {
                Ok(line) => self.take(line, &mut open, &mut streamed, cancel).await?,
                Err(error) => {
                    let line = BadLine {
                        line: number,
                        error,
                    };
                    bad(&line);
                    streamed.bad.push(line);
                }
            }
        };
        for (_, call) in open {
            call.end(reason).await?;
        }
        Ok(streamed)
    }

    async fn take(
        &self,
        line: Checked,
        open: &mut BTreeMap<String, Open<'a>>,
        streamed: &mut Streamed,
        cancel: &CancellationToken,
    ) -> Result<(), CallError> {
        let id = line.call.clone().unwrap_or_else(|| self.default.id.clone());
        let Some(said) = line.said else {
            if let Some(call) = open.remove(&id) {
                call.end(EndReason::Hangup).await?;
            }
            return Ok(());
        };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = self.pace.wait(said.end_ms) => {}
        }
        if !open.contains_key(&id) {
            let call = Call {
                id: id.clone(),
                tenant: line.tenant.unwrap_or_else(|| self.default.tenant.clone()),
                rep: line.rep.unwrap_or_else(|| self.default.rep.clone()),
                customer: line.customer.or_else(|| self.default.customer.clone()),
                ..self.default.clone()
            };
            let story =
                Story::begin::<Utterance>(call, self.started_at, self.producer, self.sealer);
            let call = Open {
                story: story.await?,
                utterances: 0,
                end_ms: 0,
            };
            open.insert(id.clone(), call);
            streamed.calls += 1;
        }
        if let Some(call) = open.get_mut(&id) {
            call.say(said).await?;
            streamed.utterances += 1;
        }
        Ok(())
    }
}

impl Open<'_> {
    async fn say(&mut self, said: Said) -> Result<(), CallError> {
        let utterance = Utterance {
            channel: said.channel,
            speaker: said.speaker,
            start_ms: said.start_ms,
            end_ms: said.end_ms,
            language: said.language,
            words: count_words(&said.text, said.language),
            text: self.story.key().seal(Field::TEXT, said.text.as_bytes())?,
        };
        self.story.add(said.end_ms, utterance).await?;
        self.utterances += 1;
        self.end_ms = self.end_ms.max(said.end_ms);
        Ok(())
    }

    async fn end(self, reason: EndReason) -> Result<(), CallError> {
        self.story
            .end::<Utterance>(self.end_ms, reason, Some(self.utterances))
            .await
    }
}

/// A line that can be streamed; `said` is none where it only ends its call.
struct Checked {
    call: Option<String>,
    tenant: Option<String>,
    rep: Option<String>,
    customer: Option<String>,
    said: Option<Said>,
}

struct Said {
    channel: i32,
    speaker: Speaker,
    start_ms: i64,
    end_ms: i64,
    language: Language,
    text: String,
}

fn parse(line: &str) -> Result<Checked, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| without_words(&error))?;
    let said = if line.ended { None } else { Some(said(&line)?) };
    Ok(Checked {
        call: line.call,
        tenant: line.tenant,
        rep: line.rep,
        customer: line.customer,
        said,
    })
}

/// What serde says of a value can quote it, and a transcript's words are nobody's business.
fn without_words(error: &serde_json::Error) -> String {
    let place = format!("column {}", error.column());
    match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            let field = text
                .strip_prefix("unknown field ")
                .and_then(|t| t.split('`').nth(1));
            match field {
                Some(field) if field.len() <= 32 => format!("unknown field {field:?}, {place}"),
                _ => format!("a field has the wrong type, {place}"),
            }
        }
        _ => format!("no valid JSON, {place}"),
    }
}

fn said(line: &Line) -> Result<Said, String> {
    let text = line.text.clone().ok_or("field \"text\" is missing")?;
    let speaker = line
        .speaker
        .ok_or("field \"speaker\" (rep or customer) is missing")?;
    let start_ms = line.start_ms.ok_or("field \"start_ms\" is missing")?;
    let end_ms = line.end_ms.ok_or("field \"end_ms\" is missing")?;
    if start_ms < 0 || end_ms < start_ms {
        return Err(format!(
            "start_ms {start_ms} and end_ms {end_ms} are out of order"
        ));
    }
    let language = line
        .language
        .as_deref()
        .ok_or("field \"language\" is missing")?;
    let language = language.parse()?;
    let channel = line
        .channel
        .unwrap_or(i32::from(speaker == Speaker::Customer));
    Ok(Said {
        channel,
        speaker,
        start_ms,
        end_ms,
        language,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_read_is_explained_without_quoting_it() {
        for (line, expected) in [
            ("{", "no valid JSON"),
            (
                r#"{"text":"secret words","speaker":"robot","start_ms":0}"#,
                "wrong type",
            ),
            (
                r#"{"text":"secret words","start_ms":0,"end_ms":1,"language":"en"}"#,
                "\"speaker\"",
            ),
            (
                r#"{"text":"secret words","speaker":"rep","start_ms":5,"end_ms":1,"language":"en"}"#,
                "out of order",
            ),
            (
                r#"{"text":"secret words","speaker":"rep","start_ms":0,"end_ms":1,"language":"tlh"}"#,
                "expected one of en, es, fr, zh",
            ),
            (r#"{"texxt":"secret words"}"#, "unknown field \"texxt\""),
        ] {
            let error = parse(line).err().unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_coach_transcribe_prints_can_be_streamed() {
        let line = r#"{"channel":0,"speaker":"rep","start_ms":10,"end_ms":900,"language":"fr","text":"bonjour à vous"}"#;
        let said = parse(line).unwrap().said.unwrap();
        assert_eq!(
            (said.channel, said.speaker, said.language),
            (0, Speaker::Rep, Language::Fr)
        );
        assert!(
            parse(r#"{"call":"a","ended":true}"#)
                .unwrap()
                .said
                .is_none()
        );
    }
}
