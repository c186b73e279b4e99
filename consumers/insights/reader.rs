//! One session of the insights model: what was said in, what it says out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;
use ort::session::Session;
use ort::value::TensorRef;
use schemas::{Objection, ObjectionKind, Sentiment, SentimentLabel, Speaker};
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::onnx::{self, ModelError};
use crate::script::{Script, in_script, is_han};

/// Outputs that the graph must have, each f32 with a row a text.
const OUTPUTS: [&str; 5] = [
    "sentiment",
    "objections",
    "next_step",
    "interest",
    "foreign",
];

/// Ends an utterance, and the turn before.
const END: &str = "</s>";

/// Longer texts are cut before they are tokenised: many times what `max_tokens` holds.
const MAX_BYTES: usize = 4_096;

/// Passages whose tokens fill the same number of such steps go through the graph together, padded
/// to the last one's end.
const STEP: usize = 8;

/// What one speaker said before the other one spoke.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Turn {
    /// Who said it.
    pub speaker: Speaker,
    /// What was said.
    pub text: String,
}

/// What is to be read: an utterance in the light of the turn before.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// The utterance.
    pub text: String,
    /// The turn before, where there was one.
    pub before: Option<Turn>,
}

impl From<&str> for Passage {
    /// An utterance alone.
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            before: None,
        }
    }
}

/// What was found in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// How the speaker feels.
    pub sentiment: Sentiment,
    /// Objections above their thresholds, likeliest first.
    pub objections: Vec<Objection>,
    /// Whether a next step is agreed.
    pub next_step: bool,
    /// Whether the speaker, if a customer, moves towards buying.
    pub interest: bool,
    /// Whether it is in none of the four languages; then nothing else was found.
    pub foreign: bool,
}

impl Reading {
    /// Of a text without a word.
    pub fn of_nothing() -> Self {
        Self {
            sentiment: Sentiment {
                label: SentimentLabel::Neutral,
                score: 1.0,
                polarity: 0.0,
            },
            objections: Vec::new(),
            next_step: false,
            interest: false,
            foreign: false,
        }
    }

    /// Of a text in a language that the model does not know: neutral, as sure as a guess.
    fn of_foreign() -> Self {
        let mut reading = Self::of_nothing();
        reading.sentiment.score = 1.0 / SentimentLabel::ALL.len() as f32;
        reading.foreign = true;
        reading
    }
}

/// `labels.json`: what the graph's outputs mean, and from where on they count.
#[derive(Debug, Deserialize)]
struct Labels {
    model: String,
    version: String,
    prefix: String,
    /// Of an utterance; what is beyond is not read.
    max_tokens: usize,
    /// Of the turn before; its last ones are read.
    max_tokens_before: usize,
    sentiment: Vec<SentimentLabel>,
    objections: Vec<ObjectionKind>,
    thresholds: BTreeMap<ObjectionKind, f32>,
    next_step_threshold: f32,
    interest_threshold: f32,
    foreign_threshold: f32,
}

/// Everything of the model but the graph: shared by all its readers.
pub(super) struct Companions {
    tokenizer: Tokenizer,
    end: u32,
    labels: Labels,
}

/// A passage as the graph takes it: the utterance's tokens, then those of the turn before.
struct Tokens {
    ids: Vec<u32>,
    /// How many of them are the utterance's.
    own: usize,
}

impl Companions {
    pub(super) fn open(folder: &Path) -> Result<Self, ModelError> {
        let labels = Labels::open(&folder.join("labels.json"))?;
        let path = folder.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_bytes(onnx::read(&path)?)
            .map_err(|error| ModelError::broken(&path, error))?;
        tokenizer
            .with_truncation(None)
            .map_err(|error| ModelError::broken(&path, error))?
            .with_padding(None);
        let end = tokenizer
            .token_to_id(END)
            .ok_or_else(|| ModelError::broken(&path, format!("no token {END}")))?;
        tracing::info!(
            model = labels.model,
            version = labels.version,
            "insights model opened"
        );
        Ok(Self {
            tokenizer,
            end,
            labels,
        })
    }

    /// The passage's tokens: the utterance with the model's prefix, then what was said before.
    fn tokens(&self, passage: &Passage) -> ort::Result<Tokens> {
        let text = legible(shortened(passage.text.trim()));
        let text = format!("{}{text}", self.labels.prefix);
        let mut ids = self.encode(&text, true)?;
        if ids.len() > self.labels.max_tokens {
            ids.truncate(self.labels.max_tokens - 1);
            ids.push(self.end);
        }
        let own = ids.len();
        if let Some(turn) = &passage.before {
            let text = legible(ending(turn.text.trim()));
            let text = format!("{}: {text}", turn.speaker);
            let before = self.encode(&text, false)?;
            let skipped = before.len().saturating_sub(self.labels.max_tokens_before);
            ids.extend_from_slice(&before[skipped..]);
            ids.push(self.end);
        }
        Ok(Tokens { ids, own })
    }

    fn encode(&self, text: &str, special: bool) -> ort::Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, special);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| ort::Error::new(error.to_string()))
    }
}

/// The text as the model learnt to read it: Chinese in Simplified script.
fn legible(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_han) {
        return Cow::Owned(in_script(text, Script::Simplified));
    }
    Cow::Borrowed(text)
}

/// The beginning of a text, more than the model reads of any.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_BYTES)]
}

/// The end of a text, more than the model reads of any.
fn ending(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(MAX_BYTES))..]
}

impl Labels {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let labels: Self = serde_json::from_slice(&onnx::read(path)?)
            .map_err(|error| ModelError::broken(path, error))?;
        let complete = ObjectionKind::ALL
            .iter()
            .all(|kind| labels.thresholds.contains_key(kind));
        if labels.sentiment != SentimentLabel::ALL
            || labels.objections != ObjectionKind::ALL
            || !complete
        {
            let reason = "its classes are not those of this version";
            return Err(ModelError::broken(path, reason));
        }
        Ok(labels)
    }

    fn threshold(&self, kind: ObjectionKind) -> f32 {
        self.thresholds.get(&kind).copied().unwrap_or(1.0)
    }

    /// The objections whose probabilities reach their thresholds, likeliest first.
    fn found(&self, probabilities: &[f32]) -> Vec<Objection> {
        let mut found: Vec<Objection> = ObjectionKind::ALL
            .iter()
            .zip(probabilities)
            .filter(|(kind, score)| **score >= self.threshold(**kind))
            .map(|(&kind, &score)| Objection { kind, score })
            .collect();
        found.sort_by(|one, other| other.score.total_cmp(&one.score));
        found
    }
}

/// One session, for one thread at a time.
pub(super) struct Reader {
    session: Session,
    companions: Arc<Companions>,
}

impl Reader {
    pub(super) fn open(
        cache: &Path,
        folder: &Path,
        companions: Arc<Companions>,
    ) -> Result<Self, ModelError> {
        let path = folder.join("insights.onnx");
        let session = onnx::session(cache, &path)?;
        for name in OUTPUTS {
            if !session.outputs().iter().any(|output| output.name() == name) {
                return Err(ModelError::broken(&path, format!("no output {name}")));
            }
        }
        Ok(Self {
            session,
            companions,
        })
    }

    /// Reads the passages: one reading each, in their order. Passages of about the same length
    /// go through the graph together, so that little of its work is padding.
    pub(super) fn read(&mut self, passages: &[&Passage]) -> Result<Vec<Reading>, ModelError> {
        let tokens = passages
            .iter()
            .map(|passage| self.companions.tokens(passage))
            .collect::<ort::Result<Vec<_>>>()?;
        let mut by_length: Vec<usize> = (0..passages.len()).collect();
        let length = |place: &usize| tokens[*place].ids.len().div_ceil(STEP);
        by_length.sort_by_key(length);
        let mut readings = vec![Reading::of_nothing(); passages.len()];
        for places in by_length.chunk_by(|one, next| length(one) == length(next)) {
            let rows: Vec<&Tokens> = places.iter().map(|place| &tokens[*place]).collect();
            for (place, reading) in places.iter().zip(self.run(&rows)?) {
                readings[*place] = reading;
            }
        }
        Ok(readings)
    }

    /// One run of the graph.
    fn run(&mut self, rows: &[&Tokens]) -> Result<Vec<Reading>, ModelError> {
        // Whole steps, also for a passage alone: sums round differently with the length that they
        // are padded to. Beyond a passage's end both masks are 0, and the id does not matter.
        let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let longest = longest.next_multiple_of(STEP);
        let mut ids = Array2::<i64>::zeros((rows.len(), longest));
        let mut mask = Array2::<i64>::zeros((rows.len(), longest));
        let mut own = Array2::<i64>::zeros((rows.len(), longest));
        for (row, tokens) in rows.iter().enumerate() {
            for (column, id) in tokens.ids.iter().enumerate() {
                ids[[row, column]] = i64::from(*id);
                mask[[row, column]] = 1;
                own[[row, column]] = i64::from(column < tokens.own);
            }
        }
        let outputs = self.session.run(ort::inputs! {
            "input_ids" => TensorRef::from_array_view(ids.view())?,
            "attention_mask" => TensorRef::from_array_view(mask.view())?,
            "utterance_mask" => TensorRef::from_array_view(own.view())?,
        })?;
        let [sentiment, objections, next_step, interest, foreign] = OUTPUTS.map(|name| {
            outputs[name]
                .try_extract_tensor::<f32>()
                .map(|(_, values)| values)
        });
        let (sentiment, objections) = (sentiment?, objections?);
        let (next_step, interest, foreign) = (next_step?, interest?, foreign?);
        let labels = &self.companions.labels;
        let rows = sentiment
            .chunks_exact(SentimentLabel::ALL.len())
            .zip(objections.chunks_exact(ObjectionKind::ALL.len()))
            .zip(next_step.iter().zip(interest).zip(foreign));
        Ok(rows
            .map(
                |((sentiment, objections), ((next_step, interest), foreign))| {
                    if *foreign >= labels.foreign_threshold {
                        return Reading::of_foreign();
                    }
                    Reading {
                        sentiment: feeling(sentiment),
                        objections: labels.found(objections),
                        next_step: *next_step >= labels.next_step_threshold,
                        interest: *interest >= labels.interest_threshold,
                        foreign: false,
                    }
                },
            )
            .collect())
    }
}

/// The likeliest class of negative, neutral, positive.
fn feeling(probabilities: &[f32]) -> Sentiment {
    let at = |place: usize| probabilities.get(place).copied().unwrap_or(0.0);
    let mut likeliest = 1;
    for place in [0, 2] {
        if at(place) > at(likeliest) {
            likeliest = place;
        }
    }
    Sentiment {
        label: SentimentLabel::ALL[likeliest],
        score: at(likeliest),
        polarity: at(2) - at(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objections_from_their_thresholds_on_count_likeliest_first() {
        let labels: Labels = serde_json::from_str(
            r#"{"model": "m", "version": "1", "prefix": "query: ",
                "max_tokens": 96, "max_tokens_before": 32,
                "sentiment": ["negative", "neutral", "positive"],
                "objections": ["price", "timing", "authority", "need", "competitor", "trust", "fit", "stall"],
                "thresholds": {"price": 0.5, "timing": 0.5, "authority": 0.5, "need": 0.25,
                    "competitor": 0.5, "trust": 0.5, "fit": 0.5, "stall": 0.5},
                "next_step_threshold": 0.5, "interest_threshold": 0.5, "foreign_threshold": 0.5}"#,
        )
        .unwrap();
        let found = labels.found(&[0.5, 0.49, 0.0, 0.26, 0.9, 0.0, 0.0, 0.1]);
        let kinds: Vec<_> = found.iter().map(|found| found.kind.as_str()).collect();
        assert_eq!(kinds, ["competitor", "price", "need"]);
        assert_eq!(found[2].score, 0.26);
    }

    #[test]
    fn the_likeliest_feeling_counts_and_polarity_tells_its_direction() {
        let sentiment = feeling(&[0.5, 0.25, 0.25]);
        assert_eq!(sentiment.label, SentimentLabel::Negative);
        assert_eq!((sentiment.score, sentiment.polarity), (0.5, -0.25));
        assert_eq!(feeling(&[0.25, 0.25, 0.5]).label, SentimentLabel::Positive);
        assert_eq!(feeling(&[0.25, 0.5, 0.25]).polarity, 0.0);
    }
}
