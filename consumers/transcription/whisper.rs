//! Whisper's two graphs: the encoder hears, the decoder writes.
//!
//! One utterance at a time, without timestamps, greedily. Which utterances to believe is decided
//! in [`super::transcriber`].

use std::collections::HashMap;
use std::path::Path;

use ort::memory::Allocator;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorRef};
use schemas::Language;
use serde::Deserialize;
use tokenizers::Tokenizer;

use super::mel::{HOP, Mel, RATE};
use crate::onnx::{self, ModelError};

/// Samples of sound for each position of the encoder's output.
const SAMPLES_A_POSITION: usize = 2 * HOP;
/// Positions of the encoder's output in a second.
pub const POSITIONS_A_SECOND: usize = RATE as usize / SAMPLES_A_POSITION;

/// `whisper.json`: the model's shape and special tokens, written by the converter.
#[derive(Debug, Deserialize)]
struct Shape {
    layers: usize,
    heads: usize,
    head_dim: usize,
    n_mels: usize,
    n_audio_ctx: usize,
    n_text_ctx: usize,
    sot: u32,
    eot: u32,
    transcribe: u32,
    no_timestamps: u32,
    no_speech: u32,
    /// Empty in an English-only model.
    languages: HashMap<String, u32>,
    suppress_ids: Vec<i64>,
    suppress_ids_begin: Vec<i64>,
}

/// One worker's Whisper, used by one thread at a time.
pub struct Whisper {
    shape: Shape,
    encoder: Session,
    decoder: Session,
    tokenizer: Tokenizer,
    mel: Mel,
    /// Added to the scores: minus infinity for what is never written.
    bias: Vec<f32>,
    /// The same for the first token.
    bias_begin: Vec<f32>,
}

/// Tensors by the names the decoder gives them.
type Tensors = Vec<(String, DynValue)>;

/// What the encoder made of an utterance.
pub struct Heard {
    cross: Tensors,
}

/// What the decoder wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Tokens without the special ones.
    pub tokens: Vec<u32>,
    /// Their text, as it came.
    pub text: String,
    /// Mean of the tokens' log probabilities, the end's included.
    pub avg_logprob: f32,
    /// Probability, 0 to 1, that there is no speech.
    pub no_speech: f32,
    /// Whether it began to say the same again and was stopped there.
    pub repeats: bool,
}

impl Whisper {
    /// Opens the model `name` of the cache.
    ///
    /// # Errors
    /// A file or the runtime is missing or broken.
    pub fn open(cache: &Path, name: &str) -> Result<Self, ModelError> {
        let folder = onnx::model_dir(cache, name);
        let path = folder.join("whisper.json");
        let shape: Shape = serde_json::from_slice(&onnx::read(&path)?)
            .map_err(|error| ModelError::broken(&path, error))?;
        let path = folder.join("tokenizer.json");
        let tokenizer = Tokenizer::from_bytes(onnx::read(&path)?)
            .map_err(|error| ModelError::broken(&path, error))?;
        Ok(Self {
            encoder: onnx::session(cache, &folder.join("encoder.onnx"))?,
            decoder: onnx::session(cache, &folder.join("decoder.onnx"))?,
            tokenizer,
            mel: Mel::new(shape.n_mels),
            bias: shape.bias(&shape.suppress_ids),
            bias_begin: shape.bias(&[&shape.suppress_ids[..], &shape.suppress_ids_begin].concat()),
            shape,
        })
    }

    /// Positions of the longest sound Whisper hears at once (30 s).
    pub fn full_context(&self) -> usize {
        self.shape.n_audio_ctx
    }

    /// Hears the samples (16 kHz), followed by silence up to `positions` of the encoder's output.
    /// What lies beyond is not heard.
    ///
    /// # Errors
    /// The model failed.
    pub fn hear(&mut self, samples: &[f32], positions: usize) -> Result<Heard, ModelError> {
        let positions = positions.clamp(1, self.full_context());
        let frames = 2 * positions;
        let mel = self
            .mel
            .spectrogram(&samples[..samples.len().min(frames * HOP)], frames);
        let mel = TensorRef::from_array_view(([1, self.shape.n_mels, frames], &mel[..]))?;
        let mut outputs = self.encoder.run(ort::inputs! { "mel" => mel })?;
        let cross = (0..self.shape.layers)
            .flat_map(|layer| [format!("cross_k_{layer}"), format!("cross_v_{layer}")])
            .map(|name| {
                let value = outputs.remove(&name).ok_or(ModelError::Lacks("cross"))?;
                Ok((name, value))
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Heard { cross })
    }

    /// The most probable of these languages, and its probability among them.
    ///
    /// # Errors
    /// The model failed, or knows none of them.
    pub fn language(
        &mut self,
        heard: &Heard,
        among: &[Language],
    ) -> Result<(Language, f32), ModelError> {
        if self.shape.languages.is_empty() {
            return Ok((Language::En, 1.0));
        }
        let mut past = self.no_past()?;
        let scores = self.step(heard, &mut past, &[self.shape.sot])?;
        let candidates = among.iter().filter_map(|&language| {
            let token = *self.shape.languages.get(language.as_str())?;
            Some((language, *scores.get(token as usize)?))
        });
        let candidates: Vec<(Language, f32)> = candidates.collect();
        let &(language, best) = candidates
            .iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .ok_or(ModelError::Lacks("language"))?;
        let sum: f32 = candidates
            .iter()
            .map(|(_, score)| (score - best).exp())
            .sum();
        Ok((language, 1.0 / sum))
    }

    /// Writes down what was heard, in at most `limit` tokens.
    ///
    /// # Errors
    /// The model failed, or does not know the language.
    pub fn write(
        &mut self,
        heard: &Heard,
        language: Language,
        limit: usize,
    ) -> Result<Written, ModelError> {
        let prompt = self.shape.prompt(language)?;
        let limit = limit.min(self.shape.n_text_ctx - prompt.len());
        let mut past = self.no_past()?;
        let scores = self.step(heard, &mut past, &prompt)?;
        let vocabulary = scores.len() / prompt.len();
        let mut written = Written {
            no_speech: probability(&scores[..vocabulary], self.shape.no_speech),
            ..Written::default()
        };
        let mut steps = 1;
        let (mut token, mut sum) = best(&scores[scores.len() - vocabulary..], &self.bias_begin);
        while token != self.shape.eot && written.tokens.len() < limit {
            written.tokens.push(token);
            if let Some(once) = said_once(&written.tokens) {
                written.tokens.truncate(once);
                written.repeats = true;
                break;
            }
            let scores = self.step(heard, &mut past, &[token])?;
            let (next, logprob) = best(&scores, &self.bias);
            token = next;
            sum += logprob;
            steps += 1;
        }
        written.avg_logprob = sum / steps as f32;
        written.text = self
            .tokenizer
            .decode(&written.tokens, true)
            .map_err(|_| ModelError::Lacks("token"))?;
        Ok(written)
    }

    /// Log probability that what was heard is this text and no more.
    ///
    /// # Errors
    /// The model failed, or does not know the language.
    pub fn chance(
        &mut self,
        heard: &Heard,
        language: Language,
        text: &str,
    ) -> Result<f32, ModelError> {
        let mut tokens = self.shape.prompt(language)?;
        let begin = tokens.len();
        let words = self
            .tokenizer
            .encode(text, false)
            .map_err(|_| ModelError::Lacks("token"))?;
        tokens.extend(words.get_ids());
        tokens.truncate(self.shape.n_text_ctx);
        let mut past = self.no_past()?;
        let scores = self.step(heard, &mut past, &tokens)?;
        let vocabulary = scores.len() / tokens.len();
        let said = scores.chunks_exact(vocabulary).skip(begin - 1);
        let next = tokens[begin..].iter().chain([&self.shape.eot]);
        Ok(said
            .zip(next)
            .map(|(scores, &token)| self.logprob(scores, token))
            .sum())
    }

    /// The log probability of one token among those that may be written.
    fn logprob(&self, scores: &[f32], token: u32) -> f32 {
        let ordinary = &scores[..scores.len().min(self.shape.eot as usize + 1)];
        let highest = ordinary.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = ordinary.iter().map(|score| (score - highest).exp()).sum();
        let own = ordinary.get(token as usize).copied().unwrap_or(f32::MIN);
        own - highest - sum.ln()
    }

    /// Runs the decoder on the next tokens, adds them to `past`, and gives the scores of what
    /// may follow each.
    fn step(
        &mut self,
        heard: &Heard,
        past: &mut Tensors,
        tokens: &[u32],
    ) -> Result<Vec<f32>, ModelError> {
        let tokens: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
        let mut inputs = ort::inputs! {
            "tokens" => TensorRef::from_array_view(([1, tokens.len()], &tokens[..]))?,
        };
        for (name, value) in past.iter().chain(&heard.cross) {
            inputs.push((name.as_str().into(), SessionInputValue::from(value)));
        }
        let mut outputs = self.decoder.run(inputs)?;
        let present = past
            .iter()
            .map(|(name, _)| {
                let present = name.replacen("past", "present", 1);
                let value = outputs
                    .remove(present)
                    .ok_or(ModelError::Lacks("present"))?;
                Ok((name.clone(), value))
            })
            .collect::<Result<_, ModelError>>()?;
        let (_, scores) = outputs["logits"].try_extract_tensor::<f32>()?;
        let scores = scores.to_vec();
        drop(outputs);
        *past = present;
        Ok(scores)
    }

    /// The decoder's memory before the first token.
    fn no_past(&self) -> Result<Tensors, ModelError> {
        let empty = [1, self.shape.heads as i64, 0, self.shape.head_dim as i64];
        (0..self.shape.layers)
            .flat_map(|layer| [format!("past_k_{layer}"), format!("past_v_{layer}")])
            .map(|name| {
                let value = Tensor::<f32>::new(&Allocator::default(), empty)?;
                Ok((name, value.into_dyn()))
            })
            .collect()
    }
}

impl Shape {
    /// What stands before the words.
    fn prompt(&self, language: Language) -> Result<Vec<u32>, ModelError> {
        if self.languages.is_empty() && language == Language::En {
            return Ok(vec![self.sot, self.no_timestamps]);
        }
        let token = self
            .languages
            .get(language.as_str())
            .ok_or(ModelError::Lacks("language"))?;
        Ok(vec![self.sot, *token, self.transcribe, self.no_timestamps])
    }

    /// Zero for each token that may be written, minus infinity for the suppressed. The special
    /// ones beyond the end of text are left out altogether.
    fn bias(&self, suppressed: &[i64]) -> Vec<f32> {
        let mut bias = vec![0.0; self.eot as usize + 1];
        for &id in suppressed {
            if let Some(bias) = usize::try_from(id).ok().and_then(|id| bias.get_mut(id)) {
                *bias = f32::NEG_INFINITY;
            }
        }
        bias
    }
}

/// Where the tokens begin to go round in circles: when the last ones are the same as those before
/// them. With a cropped context Whisper now and then says the same over and over. People repeat
/// themselves too: at least this many tokens must be too many.
fn said_once(tokens: &[u32]) -> Option<usize> {
    const TOO_MANY: usize = 4;
    let end = tokens.len();
    let repeated = |period: usize| {
        let begin = end.checked_sub(period * TOO_MANY.div_ceil(period))?;
        let before = begin.checked_sub(period)?;
        let first = &tokens[before..begin];
        let mut copies = tokens[before..].chunks_exact(period);
        copies.all(|copy| copy == first).then_some(begin)
    };
    (1..=end / 2).find_map(repeated)
}

/// The best token and its log probability among those that may be written.
fn best(scores: &[f32], bias: &[f32]) -> (u32, f32) {
    let biased = || scores.iter().zip(bias).map(|(score, bias)| score + bias);
    let (token, highest) = biased()
        .enumerate()
        .fold((0, f32::MIN), |top, (token, score)| {
            if score > top.1 { (token, score) } else { top }
        });
    let sum: f32 = biased().map(|score| (score - highest).exp()).sum();
    (token as u32, -sum.ln())
}

/// The probability of one token among all.
fn probability(scores: &[f32], token: u32) -> f32 {
    let highest = scores.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = scores.iter().map(|score| (score - highest).exp()).sum();
    scores
        .get(token as usize)
        .map_or(0.0, |score| (score - highest).exp() / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_said_twice_is_said_once() {
        let sentence = [1, 2, 3, 4, 5, 6, 7];
        let twice = [&[9][..], &sentence, &sentence].concat();
        assert_eq!(said_once(&twice), Some(8));
        assert_eq!(said_once(&twice[..14]), None);
        assert_eq!(said_once(&[9, 1, 2, 1, 2, 1, 2]), Some(3));
    }

    #[test]
    fn a_phrase_that_comes_back_later_is_no_circle() {
        assert_eq!(said_once(&[1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 5, 6]), None);
        assert_eq!(said_once(&[7, 7, 7, 7]), None);
    }

    #[test]
    fn the_best_token_is_the_best_that_may_be_written() {
        let (token, logprob) = best(&[5.0, 1.0, 3.0], &[f32::NEG_INFINITY, 0.0, 0.0]);
        assert_eq!(token, 2);
        assert!((logprob - (1.0 / (1.0 + (-2.0f32).exp())).ln()).abs() < 1e-5);
    }
}
