//! One session of the insights model: texts in, what they say out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;
use ort::session::Session;
use ort::value::TensorRef;
use schemas::{Objection, ObjectionKind, Sentiment, SentimentLabel};
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::onnx::{self, ModelError};

/// Outputs that the graph must have, each f32 with a row a text.
const OUTPUTS: [&str; 3] = ["sentiment", "objections", "next_step"];

/// Texts whose tokens fill the same number of such steps go through the graph together.
const STEP: usize = 8;

/// What was found in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// How the speaker feels.
    pub sentiment: Sentiment,
    /// Objections above their thresholds, likeliest first.
    pub objections: Vec<Objection>,
    /// Whether a next step is agreed.
    pub next_step: bool,
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
        }
    }
}

/// `labels.json`: what the graph's outputs mean, and from where on they count.
#[derive(Debug, Deserialize)]
struct Labels {
    model: String,
    version: String,
    prefix: String,
    max_tokens: usize,
    sentiment: Vec<SentimentLabel>,
    objections: Vec<ObjectionKind>,
    thresholds: BTreeMap<ObjectionKind, f32>,
    next_step_threshold: f32,
}

/// Everything of the model but the graph: shared by all its readers.
pub(super) struct Companions {
    tokenizer: Tokenizer,
    labels: Labels,
}

impl Companions {
    pub(super) fn open(folder: &Path) -> Result<Self, ModelError> {
        let labels = Labels::open(&folder.join("labels.json"))?;
        let path = folder.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_bytes(onnx::read(&path)?)
            .map_err(|error| ModelError::broken(&path, error))?;
        let truncation = TruncationParams {
            max_length: labels.max_tokens,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| ModelError::broken(&path, error))?
            .with_padding(None);
        tracing::info!(
            model = labels.model,
            version = labels.version,
            "insights model opened"
        );
        Ok(Self { tokenizer, labels })
    }

    /// Token ids of each text with the model's prefix, at most `max_tokens` each.
    fn tokens(&self, texts: &[&str]) -> ort::Result<Vec<Vec<u32>>> {
        let of = |text: &&str| {
            let text = format!("{}{}", self.labels.prefix, text.trim());
            let encoding = self.tokenizer.encode_fast(text, true);
            encoding
                .map(|encoding| encoding.get_ids().to_vec())
                .map_err(|error| ort::Error::new(error.to_string()))
        };
        texts.iter().map(of).collect()
    }
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

    /// Reads the texts: one reading a text, in their order. Texts of about the same length go
    /// through the graph together, so that little of its work is padding.
    pub(super) fn read(&mut self, texts: &[&str]) -> Result<Vec<Reading>, ModelError> {
        let tokens = self.companions.tokens(texts)?;
        let mut by_length: Vec<usize> = (0..texts.len()).collect();
        let length = |place: &usize| tokens[*place].len().div_ceil(STEP);
        by_length.sort_by_key(length);
        let mut readings = vec![Reading::of_nothing(); texts.len()];
        for places in by_length.chunk_by(|one, next| length(one) == length(next)) {
            let rows: Vec<&[u32]> = places.iter().map(|place| &tokens[*place][..]).collect();
            for (place, reading) in places.iter().zip(self.run(&rows)?) {
                readings[*place] = reading;
            }
        }
        Ok(readings)
    }

    /// One run of the graph.
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Reading>, ModelError> {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        // Beyond a text's end the mask is 0, and the id does not matter.
        let mut ids = Array2::<i64>::zeros((rows.len(), longest));
        let mut mask = Array2::<i64>::zeros((rows.len(), longest));
        for (row, tokens) in rows.iter().enumerate() {
            for (column, id) in tokens.iter().enumerate() {
                ids[[row, column]] = i64::from(*id);
                mask[[row, column]] = 1;
            }
        }
        let outputs = self.session.run(ort::inputs! {
            "input_ids" => TensorRef::from_array_view(ids.view())?,
            "attention_mask" => TensorRef::from_array_view(mask.view())?,
        })?;
        let (_, sentiment) = outputs["sentiment"].try_extract_tensor::<f32>()?;
        let (_, objections) = outputs["objections"].try_extract_tensor::<f32>()?;
        let (_, next_step) = outputs["next_step"].try_extract_tensor::<f32>()?;
        let labels = &self.companions.labels;
        let rows = sentiment
            .chunks_exact(SentimentLabel::ALL.len())
            .zip(objections.chunks_exact(ObjectionKind::ALL.len()))
            .zip(next_step);
        Ok(rows
            .map(|((sentiment, objections), next_step)| Reading {
                sentiment: feeling(sentiment),
                objections: labels.found(objections),
                next_step: *next_step >= labels.next_step_threshold,
            })
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
            r#"{"model": "m", "version": "1", "prefix": "query: ", "max_tokens": 128,
                "sentiment": ["negative", "neutral", "positive"],
                "objections": ["price", "timing", "authority", "need", "competitor", "trust", "fit", "stall"],
                "thresholds": {"price": 0.5, "timing": 0.5, "authority": 0.5, "need": 0.25,
                    "competitor": 0.5, "trust": 0.5, "fit": 0.5, "stall": 0.5},
                "next_step_threshold": 0.5}"#,
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
