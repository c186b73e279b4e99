//! Decides how an utterance is heard and whether what Whisper wrote is to be believed.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use schemas::Language;

use super::mel;
use super::names::{Proposal, overlap};
use super::pool::{JobLost, Pool};
use super::spelling::Spelling;
use super::text;
use super::whisper::{Heard, POSITIONS_A_SECOND, Whisper, Written};
use crate::onnx::ModelError;
use crate::script::{in_script, script_of};

/// An utterance's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    /// The words, normalised; empty when there are none to believe.
    pub text: String,
    /// The language they are in.
    pub language: Language,
    /// Probability of the language among those asked for; 1 when it was given.
    pub language_probability: f32,
    /// Mean log probability of the tokens.
    pub avg_logprob: f32,
    /// Probability that there is no speech at all.
    pub no_speech: f32,
    /// Whether it took a second attempt with the full context.
    pub second_attempt: bool,
}

/// In which language an utterance is written down.
#[derive(Clone, Debug, PartialEq)]
pub enum LanguageChoice {
    /// In this one.
    Known(Language),
    /// In whichever of these it sounds most like.
    Among(Vec<Language>),
}

/// Why an utterance has no transcription.
#[derive(Debug, thiserror::Error)]
pub enum TranscribeError {
    /// The model is missing, broken, or failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The worker panicked.
    #[error(transparent)]
    Lost(#[from] JobLost),
    /// The system gives no threads.
    #[error("cannot start the transcription's threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// Whisper on several threads, an utterance on each.
pub struct Transcriber {
    pool: Pool<Whisper>,
    workers: usize,
}

impl Transcriber {
    /// Opens the model `name` of the cache once for each of `workers` threads; 0 stands for the
    /// number of cores.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn open(cache: &Path, name: &str, workers: usize) -> Result<Self, TranscribeError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = if workers == 0 { cores } else { workers };
        let models: Result<Vec<_>, _> = (0..count).map(|_| Whisper::open(cache, name)).collect();
        let pool = Pool::start("whisper", models?)?;
        Ok(Self {
            pool,
            workers: count,
        })
    }

    /// Utterances transcribed at the same time.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Writes down an utterance of at most 30 s, its samples at 16 kHz, spelled like this.
    ///
    /// # Errors
    /// The model failed.
    pub async fn transcribe(
        &self,
        samples: Vec<f32>,
        choice: LanguageChoice,
        spelling: Arc<Spelling>,
    ) -> Result<Words, TranscribeError> {
        Ok(self
            .pool
            .run(move |whisper| transcribe(whisper, &samples, &choice, &spelling))
            .await??)
    }

    /// The language that the samples (16 kHz) sound most like, and its probability among these.
    ///
    /// # Errors
    /// The model failed.
    pub async fn identify(
        &self,
        samples: Vec<f32>,
        among: Vec<Language>,
    ) -> Result<(Language, f32), TranscribeError> {
        let job = move |whisper: &mut Whisper| {
            let heard = whisper.hear(&samples, cropped(&samples))?;
            whisper.language(&heard, &among)
        };
        Ok(self.pool.run(job).await??)
    }
}

/// Positions of the encoder's output for the samples and two seconds of silence, eight seconds at
/// least: the model was trained on 30 s, and most of its time would go into hearing nothing; with
/// less than this it repeats itself and mistakes short phrases.
fn cropped(samples: &[f32]) -> usize {
    const SILENCE: usize = 2 * POSITIONS_A_SECOND;
    const LEAST: usize = 8 * POSITIONS_A_SECOND;
    let heard = samples
        .len()
        .div_ceil(mel::RATE as usize / POSITIONS_A_SECOND);
    (heard + SILENCE).max(LEAST)
}

fn transcribe(
    whisper: &mut Whisper,
    samples: &[f32],
    choice: &LanguageChoice,
    spelling: &Spelling,
) -> Result<Words, ModelError> {
    let positions = cropped(samples);
    let heard = whisper.hear(samples, positions)?;
    let (language, language_probability) = match choice {
        LanguageChoice::Known(language) => (*language, 1.0),
        LanguageChoice::Among(languages) => whisper.language(&heard, languages)?,
    };
    let limit = most_tokens(samples);
    let first = whisper.write(&heard, language, limit)?;
    let second_attempt = is_doubtful(&first) && positions < whisper.full_context();
    let (heard, written) = if second_attempt {
        let heard = whisper.hear(samples, whisper.full_context())?;
        let written = whisper.write(&heard, language, limit)?;
        (heard, written)
    } else {
        (heard, first)
    };
    let plain = spelling.spell(&written.text, language);
    let text = if is_credible(&written, &plain) {
        let named = with_names(whisper, &heard, language, &written.text, spelling)?;
        spelling.spell(&named, language)
    } else {
        String::new()
    };
    Ok(Words {
        text,
        language,
        language_probability,
        avg_logprob: written.avg_logprob,
        no_speech: written.no_speech,
        second_attempt,
    })
}

/// The text with the tenant's names where Whisper finds them about as likely as what it wrote. They
/// only ever take the place of something that was written and sounds like them.
fn with_names(
    whisper: &mut Whisper,
    heard: &Heard,
    language: Language,
    text: &str,
    spelling: &Spelling,
) -> Result<String, ModelError> {
    let proposals = spelling.names.proposals(text);
    if proposals.is_empty() {
        return Ok(text.to_owned());
    }
    let own = whisper.chance(heard, language, text)?;
    // Whisper keeps to the script it has begun in.
    let script = script_of(text);
    let mut judged: Vec<(f32, Proposal<'_>)> = Vec::new();
    for proposal in proposals {
        let mut other = text.to_owned();
        other.replace_range(proposal.place.clone(), &in_script(proposal.name, script));
        let loss = own - whisper.chance(heard, language, &other)?;
        if loss <= most_loss(&proposal) {
            judged.push((loss, proposal));
        }
    }
    judged.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut chosen: Vec<Proposal<'_>> = Vec::new();
    for (_, proposal) in judged {
        if !chosen
            .iter()
            .any(|other| overlap(&other.place, &proposal.place))
        {
            chosen.push(proposal);
        }
    }
    chosen.sort_by_key(|proposal| std::cmp::Reverse(proposal.place.start));
    let mut named = text.to_owned();
    for proposal in chosen {
        named.replace_range(proposal.place, proposal.name);
    }
    Ok(named)
}

/// The log probability that a name may cost: the more the closer it sounds, none when it hardly does,
/// less when it is short. Chosen on the names marked `dev` in `benches/transcribe/names` and on
/// speech without any.
fn most_loss(proposal: &Proposal<'_>) -> f32 {
    const LONG: f32 = 5.0;
    if proposal.likeness < 0.7 {
        return 0.0;
    }
    let most = (4.5 + 45.0 * (proposal.likeness - 0.7)).min(12.0);
    most * (proposal.sounds as f32 / LONG).min(1.0)
}

/// More tokens than the fastest speaker utters in that time.
fn most_tokens(samples: &[f32]) -> usize {
    const A_SECOND: usize = 16;
    16 + A_SECOND * samples.len().div_ceil(mel::RATE as usize)
}

/// Whether an attempt with the full context may hear better: with a cropped one Whisper now and
/// then says the same over and over.
fn is_doubtful(written: &Written) -> bool {
    written.repeats || compression(&written.text) > 1.8
}

/// Whether speech gave rise to the text. Whisper's own limits, and stricter ones for what it is
/// known to invent.
fn is_credible(written: &Written, text: &str) -> bool {
    let silent = written.no_speech > 0.45 && written.avg_logprob < -0.6;
    let stuck = written.no_speech > 0.3 && written.repeats;
    let guessed = written.avg_logprob < -1.2;
    let circles = compression(&written.text) > 2.4;
    let weak = written.no_speech > 0.3 || written.avg_logprob < -0.6;
    !(silent || stuck || guessed || circles || weak && text::is_invented(text))
}

/// Bytes of the text for each byte of its zlib form: high when it repeats itself.
fn compression(text: &str) -> f32 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let packed = encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish());
    packed.map_or(0.0, |packed| text.len() as f32 / packed.len() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_cost_more_the_closer_it_sounds_and_the_longer_it_is() {
        let most = |likeness, sounds| {
            most_loss(&Proposal {
                place: 0..1,
                name: "",
                likeness,
                sounds,
            })
        };
        assert!(most(1.0, 8) > most(0.8, 8) && most(0.8, 8) > most(0.7, 8));
        assert!(most(1.0, 2) < most(1.0, 8));
        assert_eq!(most(0.69, 8), 0.0);
    }
}
