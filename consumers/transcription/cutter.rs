//! Cuts a channel into utterances, as a function of its samples and nothing else: however the
//! samples are handed over, the utterances are the same.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::vad::{FRAME_MS, Vad, VadState};
use crate::onnx::ModelError;

/// When an utterance begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CutterSettings {
    /// Probability of speech, 0 to 1, from which on an utterance begins.
    #[serde(deserialize_with = "probability")]
    pub begin_probability: f32,
    /// Probability of speech below which a frame counts as a pause.
    #[serde(deserialize_with = "probability")]
    pub pause_probability: f32,
    /// Milliseconds of pause that end an utterance. Shorter gives tips sooner and cuts more
    /// sentences in two.
    pub end_pause_ms: usize,
    /// Milliseconds of speech below which a sound is not an utterance.
    pub min_speech_ms: usize,
    /// Milliseconds kept before the first and after the last word, so that neither is clipped.
    pub margin_ms: usize,
    /// Milliseconds after which a monologue is cut at its quietest moment.
    #[serde(deserialize_with = "hearable")]
    pub max_utterance_ms: usize,
}

impl Default for CutterSettings {
    fn default() -> Self {
        Self {
            begin_probability: 0.5,
            pause_probability: 0.35,
            end_pause_ms: 500,
            min_speech_ms: 250,
            margin_ms: 200,
            max_utterance_ms: 15_000,
        }
    }
}

fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let value = f32::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(D::Error::custom(format!(
        "{value} is no probability: 0 to 1"
    )))
}

fn hearable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let ms = usize::deserialize(deserializer)?;
    if (1000..=29_000).contains(&ms) {
        return Ok(ms);
    }
    Err(D::Error::custom(format!(
        "{ms} ms: 1000 to 29000, for Whisper hears 30 s at once"
    )))
}

/// An utterance's sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Where the first word begins, in milliseconds from the channel's first sample.
    pub start_ms: i64,
    /// Where the last word ends.
    pub end_ms: i64,
    /// The samples, with a margin on both sides.
    pub samples: Vec<f32>,
}

/// Cuts one channel. Holds at most one utterance of sound.
#[derive(Clone, Debug)]
pub struct Cutter {
    settings: CutterSettings,
    vad: VadState,
    /// Samples that do not fill a frame yet.
    rest: Vec<f32>,
    /// Sound that may still belong to an utterance: whole frames.
    sound: Vec<f32>,
    /// Probability of speech of each frame of `sound`.
    speech: Vec<f32>,
    /// Frames that went before `sound`.
    gone: usize,
    /// First and last frame of speech within `sound`, while someone speaks.
    words: Option<(usize, usize)>,
}

impl Cutter {
    /// A cutter for a channel of `rate` Hz, 8000 or 16000.
    pub fn new(rate: u32, settings: CutterSettings) -> Self {
        Self {
            settings,
            vad: VadState::new(rate),
            rest: Vec::new(),
            sound: Vec::new(),
            speech: Vec::new(),
            gone: 0,
            words: None,
        }
    }

    /// Takes the channel's next samples and returns the utterances that ended within them.
    ///
    /// # Errors
    /// The model failed.
    pub fn push(&mut self, vad: &mut Vad, samples: &[f32]) -> Result<Vec<Cut>, ModelError> {
        let size = self.vad.frame();
        let mut cuts = Vec::new();
        self.rest.extend_from_slice(samples);
        let rest = std::mem::take(&mut self.rest);
        let mut frames = rest.chunks_exact(size);
        for frame in &mut frames {
            let probability = vad.probability(&mut self.vad, frame)?;
            self.sound.extend_from_slice(frame);
            self.speech.push(probability);
            cuts.extend(self.step(probability));
        }
        self.rest = frames.remainder().to_vec();
        Ok(cuts)
    }

    /// Ends the channel and returns the utterance that was going on.
    pub fn finish(&mut self) -> Option<Cut> {
        let end = self.speech.len();
        let cut = self
            .words
            .take()
            .and_then(|(first, last)| self.cut(first, last, end));
        self.forget(end);
        cut
    }

    /// Decides what the newest frame changes.
    fn step(&mut self, probability: f32) -> Option<Cut> {
        let newest = self.speech.len() - 1;
        let Some((first, last)) = self.words else {
            if probability >= self.settings.begin_probability {
                self.words = Some((newest, newest));
            } else {
                self.forget(self.speech.len().saturating_sub(self.margin()));
            }
            return None;
        };
        if probability >= self.settings.pause_probability {
            self.words = Some((first, newest));
        } else if newest - last >= self.end_pause() {
            self.words = None;
            let cut = self.cut(first, last, last + 1 + self.margin());
            self.forget(self.speech.len().saturating_sub(self.margin()));
            return cut;
        }
        if self.speech.len() >= self.settings.max_utterance_ms / FRAME_MS {
            return self.cut_monologue(first);
        }
        None
    }

    /// Frames of pause that end the utterance: half as many once it is half as long as it may be.
    fn end_pause(&self) -> usize {
        let full = (self.settings.end_pause_ms / FRAME_MS).max(1);
        let long = self.speech.len() * 2 * FRAME_MS >= self.settings.max_utterance_ms;
        if long { full.div_ceil(2) } else { full }
    }

    fn margin(&self) -> usize {
        self.settings.margin_ms / FRAME_MS
    }

    /// Cuts a long utterance at the quietest moment of its second half and goes on with the rest.
    fn cut_monologue(&mut self, first: usize) -> Option<Cut> {
        let quiet = |middle: usize| -> f32 { self.speech[middle - 1..=middle + 1].iter().sum() };
        let at = (self.speech.len() / 2..self.speech.len() - 1)
            .min_by(|&a, &b| quiet(a).total_cmp(&quiet(b)))
            .unwrap_or(self.speech.len() - 1);
        let is_speech = |&frame: &usize| self.speech[frame] >= self.settings.pause_probability;
        let last = (first..at).rev().find(is_speech).unwrap_or(first);
        let cut = self.cut(first, last, at);
        let next = (at..self.speech.len()).find(is_speech);
        let newest = (at..self.speech.len()).rev().find(is_speech);
        self.forget(at);
        self.words = next
            .zip(newest)
            .map(|(next, newest)| (next - at, newest - at));
        cut
    }

    /// The utterance of frames `first..=last`, with the sound up to frame `end`.
    fn cut(&self, first: usize, last: usize, end: usize) -> Option<Cut> {
        if (last + 1 - first) * FRAME_MS < self.settings.min_speech_ms {
            return None;
        }
        let ms = |frame: usize| ((self.gone + frame) * FRAME_MS) as i64;
        let end = (end * self.vad.frame()).min(self.sound.len());
        Some(Cut {
            start_ms: ms(first),
            end_ms: ms(last + 1),
            samples: self.sound[..end].to_vec(),
        })
    }

    /// Drops the first frames of the sound.
    fn forget(&mut self, frames: usize) {
        self.sound.drain(..frames * self.vad.frame());
        self.speech.drain(..frames);
        self.gone += frames;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_and_the_defaults_are_not() {
        let read = |text: &str| serde_json::from_str::<CutterSettings>(text);
        assert_eq!(read("{}").unwrap(), CutterSettings::default());
        let default = serde_json::to_string(&CutterSettings::default()).unwrap();
        assert_eq!(read(&default).unwrap(), CutterSettings::default());
        for (text, complaint) in [
            (r#"{"begin_probability": 1.5}"#, "0 to 1"),
            (r#"{"max_utterance_ms": 60000}"#, "1000 to 29000"),
            (r#"{"end_silence": 1}"#, "unknown field"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
