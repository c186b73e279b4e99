//! A recording played into `calls.audio` as if it came from the line.

use pipeline::producer::Producer;
use pipeline::{Field, Sealer};
use schemas::{Chunk, Encoding, EndReason, Speaker};
use tokio_util::sync::CancellationToken;

use crate::audio::{Audio, AudioError, resample};
use crate::call::{Call, CallError, Pace, Story};

/// Length of a chunk: short enough to add little to a tip's latency.
const CHUNK_MS: i64 = 100;

/// Rates that go to the topic as they are; every other rate becomes the higher of them.
const TELEPHONE: u32 = 8_000;
const WIDEBAND: u32 = 16_000;

/// A recording ready to be played: interleaved 16-bit samples.
pub struct Recording {
    rate: u32,
    channels: usize,
    samples: Vec<i16>,
}

/// What was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Milliseconds of the call.
    pub duration_ms: i64,
    /// Whether it was played to its end.
    pub whole: bool,
}

impl Recording {
    /// Prepares decoded audio: telephone or wideband rate, 16 bits, channels interleaved.
    ///
    /// # Errors
    /// When its rate cannot be converted.
    pub fn new(audio: &Audio) -> Result<Self, AudioError> {
        let rate = if audio.rate == TELEPHONE {
            TELEPHONE
        } else {
            WIDEBAND
        };
        let channels = audio
            .channels
            .iter()
            .map(|samples| match audio.rate == rate {
                true => Ok(samples.clone()),
                false => resample(samples, audio.rate, rate),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let frames = channels.iter().map(Vec::len).min().unwrap_or(0);
        let samples = (0..frames)
            .flat_map(|frame| channels.iter().map(move |samples| to_i16(samples[frame])))
            .collect();
        Ok(Self {
            rate,
            channels: channels.len(),
            samples,
        })
    }

    /// Who speaks on each channel, when nobody says otherwise: with two channels the rep is on the
    /// first; a single one is heard as the customer's, so that no objection goes unheard.
    pub fn speakers(&self) -> Vec<Speaker> {
        match self.channels {
            1 => vec![Speaker::Customer],
            _ => vec![Speaker::Rep, Speaker::Customer],
        }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Length in milliseconds.
    pub fn duration_ms(&self) -> i64 {
        self.at_ms(self.samples.len())
    }

    /// Where in the call, in milliseconds, a sample of the interleaved ones lies.
    fn at_ms(&self, sample: usize) -> i64 {
        let frames = (sample / self.channels.max(1)) as u64;
        i64::try_from(frames * 1000 / u64::from(self.rate)).unwrap_or(i64::MAX)
    }
}

fn to_i16(sample: f32) -> i16 {
    // The product is within an i16 by the clamp.
    (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16
}

/// Plays a recording into `calls.audio` at `pace`, each chunk when its last sample would have been
/// heard. On `cancel` the call ends there, as aborted.
///
/// # Errors
/// When the call cannot be sealed, or Kafka refuses it; an unreachable broker is waited for.
pub async fn play(
    recording: &Recording,
    mut story: Story<'_>,
    pace: Pace,
    cancel: &CancellationToken,
) -> Result<Played, CallError> {
    let frames = recording.rate as usize * CHUNK_MS as usize / 1000;
    let size = (frames * recording.channels).max(1);
    let mut reached = 0;
    let mut whole = true;
    for (index, samples) in recording.samples.chunks(size).enumerate() {
        let end_ms = recording.at_ms(index * size + samples.len());
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                whole = false;
                break;
            }
            () = pace.wait(end_ms) => {}
        }
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        let chunk = Chunk {
            offset_ms: reached,
            duration_ms: end_ms - reached,
            sample_rate: i32::try_from(recording.rate).unwrap_or(i32::MAX),
            encoding: Encoding::PcmS16le,
            audio: story.key().seal(Field::AUDIO, &bytes)?,
        };
        story.add(end_ms, chunk).await?;
        reached = end_ms;
    }
    let reason = if whole {
        EndReason::Hangup
    } else {
        EndReason::Aborted
    };
    story.end::<Chunk>(reached, reason, None).await?;
    Ok(Played {
        duration_ms: reached,
        whole,
    })
}

/// Begins a call on `calls.audio`.
///
/// # Errors
/// When it cannot be sealed or written.
pub async fn begin<'a>(
    call: Call,
    started_at: i64,
    producer: &'a Producer,
    sealer: &Sealer,
) -> Result<Story<'a>, CallError> {
    Story::begin::<Chunk>(call, started_at, producer, sealer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(rate: u32, channels: Vec<Vec<f32>>) -> Audio {
        Audio {
            rate,
            channels,
            missing: 0,
        }
    }

    #[test]
    fn telephone_audio_goes_to_the_topic_as_it_is_with_channels_interleaved() {
        let recording =
            Recording::new(&audio(8000, vec![vec![0.0, 0.5], vec![1.0, -2.0]])).unwrap();
        assert_eq!(recording.samples, [0, 32767, 16383, -32767]);
        assert_eq!(recording.speakers(), [Speaker::Rep, Speaker::Customer]);
    }

    #[test]
    fn other_rates_become_wideband_and_keep_their_length() {
        let recording = Recording::new(&audio(44_100, vec![vec![0.1; 44_100]])).unwrap();
        assert_eq!((recording.rate, recording.channels()), (16_000, 1));
        assert!(
            (recording.duration_ms() - 1000).abs() <= 10,
            "{}",
            recording.duration_ms()
        );
        assert_eq!(recording.speakers(), [Speaker::Customer]);
    }
}
