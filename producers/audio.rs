//! Audio files: WAV of one or two channels, whatever its sample format and rate.

use std::fs::File;
use std::path::{Path, PathBuf};

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as Malformed;
use symphonia::core::formats::{FormatOptions, FormatReader, Track};
use symphonia::core::io::MediaSourceStream;
use symphonia::default::formats::WavReader;

/// A recording, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// Samples a second, of each channel.
    pub rate: u32,
    /// One or two channels of equal length; samples between -1 and 1. With two, the rep is the
    /// first and the customer the second.
    pub channels: Vec<Vec<f32>>,
    /// Samples of each channel that the header promises and the file lacks: above zero, the file
    /// was cut off and `channels` hold what is there.
    pub missing: u64,
}

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The file cannot be read at all.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is of another kind, or of a WAV kind that is not supported.
    #[error(
        "{} is not a WAV file this can play ({reason}); PCM of 8 to 32 bits, float, mu-law and A-law are",
        .path.display()
    )]
    NotWav {
        /// The file.
        path: PathBuf,
        /// What its reader said.
        reason: String,
    },
    /// There is a header and no sound.
    #[error("{} holds no audio", .0.display())]
    Empty(PathBuf),
    /// A call has two sides.
    #[error("{} has {channels} channels; a call has one or two", .path.display())]
    Channels {
        /// The file.
        path: PathBuf,
        /// How many it has.
        channels: usize,
    },
    /// No resampling between these rates.
    #[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
    Rate {
        /// Hertz of the samples.
        from: u32,
        /// Hertz wanted.
        to: u32,
        /// What the resampler said.
        reason: String,
    },
}

/// Reads a WAV file. A file that was cut off gives what is there, and says so in `missing`.
///
/// # Errors
/// The file cannot be read, is no WAV, holds no sound, or has more than two channels.
pub fn read(path: &Path) -> Result<Audio, AudioError> {
    let unreadable = |source| AudioError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    let not_wav = |reason: &str| AudioError::NotWav {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let mut wav = WavReader::try_new(stream, FormatOptions::default()).map_err(|error| {
        match error {
            // The reader's word for a file that ends within its header.
            Malformed::IoError(_) => not_wav("it ends within its header"),
            other => not_wav(&other.to_string()),
        }
    })?;
    let track = wav
        .tracks()
        .first()
        .cloned()
        .ok_or_else(|| not_wav("it has no track"))?;
    let (rate, count) = shape(&track).ok_or_else(|| not_wav("its header names no rate"))?;
    if count > 2 {
        return Err(AudioError::Channels {
            path: path.to_owned(),
            channels: count,
        });
    }
    let channels = decode(&mut wav, &track, count).map_err(|error| not_wav(&error.to_string()))?;
    let length = channels.first().map_or(0, Vec::len);
    if length == 0 {
        return Err(AudioError::Empty(path.to_owned()));
    }
    let missing = track.num_frames.unwrap_or(0).saturating_sub(length as u64);
    Ok(Audio {
        rate,
        channels,
        missing,
    })
}

/// Samples a second and the number of channels.
fn shape(track: &Track) -> Option<(u32, usize)> {
    let params = track.codec_params.as_ref()?.audio()?;
    let rate = params.sample_rate.filter(|&rate| rate > 0)?;
    Some((rate, params.channels.as_ref()?.count()))
}

/// All samples of each channel, up to the end of the file or of what can be read of it.
fn decode(
    wav: &mut WavReader<'_>,
    track: &Track,
    count: usize,
) -> Result<Vec<Vec<f32>>, Malformed> {
    let params = track
        .codec_params
        .as_ref()
        .and_then(|params| params.audio());
    let params = params.ok_or(Malformed::Unsupported("no audio"))?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default())?;
    let mut channels = vec![Vec::new(); count];
    let mut planes: Vec<Vec<f32>> = Vec::new();
    loop {
        let packet = match wav.next_packet() {
            Ok(Some(packet)) => packet,
            // A file that was cut off ends with an error instead of a packet.
            Ok(None) | Err(Malformed::IoError(_)) => return Ok(channels),
            Err(error) => return Err(error),
        };
        match decoder.decode(&packet) {
            Ok(samples) => samples.copy_to_vecs_planar(&mut planes),
            // Half a sample at the end of a file that was cut off.
            Err(Malformed::IoError(_)) => return Ok(channels),
            Err(error) => return Err(error),
        }
        for (channel, plane) in channels.iter_mut().zip(&planes) {
            channel.extend_from_slice(plane);
        }
    }
}

/// The same sound at another rate, in hertz: band-limited, without delay, as long as before.
///
/// # Errors
/// A rate of zero.
pub fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, AudioError> {
    if from == to || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    let failed = |reason: &dyn ToString| AudioError::Rate {
        from,
        to,
        reason: reason.to_string(),
    };
    const CHUNK: usize = 1024;
    let mut resampler = Fft::<f32>::new(from as usize, to as usize, CHUNK, 1, FixedSync::Input)
        .map_err(|error| failed(&error))?;
    let input = InterleavedSlice::new(samples, 1, samples.len()).map_err(|error| failed(&error))?;
    let output = resampler
        .process_all(&input, samples.len(), None)
        .map_err(|error| failed(&error))?;
    Ok(output.take_data())
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    const PCM: u16 = 1;
    const FLOAT: u16 = 3;
    const ALAW: u16 = 6;
    const MULAW: u16 = 7;

    /// A WAV file's bytes, its data chunk as given.
    fn wav(format: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let align = channels * bits / 8;
        let mut bytes = b"RIFF".to_vec();
        bytes.extend((38 + data.len() as u32).to_le_bytes());
        bytes.extend(b"WAVEfmt ");
        bytes.extend(18u32.to_le_bytes());
        bytes.extend(format.to_le_bytes());
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend((rate * u32::from(align)).to_le_bytes());
        bytes.extend(align.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(0u16.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Audio, AudioError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    fn tone(rate: u32, hertz: f32, seconds: f32) -> Vec<f32> {
        let length = (rate as f32 * seconds) as usize;
        (0..length)
            .map(|i| 0.5 * (TAU * hertz * i as f32 / rate as f32).sin())
            .collect()
    }

    fn pcm16(samples: &[f32]) -> Vec<u8> {
        samples
            .iter()
            .flat_map(|s| ((s * 32768.0) as i16).to_le_bytes())
            .collect()
    }

    #[test]
    fn every_sample_format_gives_the_same_sound() {
        let half = |format, bits, data: &[u8]| {
            let audio = read_bytes(&wav(format, 1, 8000, bits, data)).unwrap();
            assert_eq!(
                (audio.rate, audio.missing, audio.channels.len()),
                (8000, 0, 1)
            );
            audio.channels[0].clone()
        };
        let near = |samples: Vec<f32>| {
            assert_eq!(samples.len(), 2);
            assert!((samples[0] - 0.5).abs() < 0.02, "{samples:?}");
            assert!((samples[1] + 0.5).abs() < 0.02, "{samples:?}");
        };
        near(half(PCM, 8, &[192, 64]));
        near(half(PCM, 16, &[0x00, 0x40, 0x00, 0xc0]));
        near(half(PCM, 24, &[0, 0, 0x40, 0, 0, 0xc0]));
        near(half(PCM, 32, &[0, 0, 0, 0x40, 0, 0, 0, 0xc0]));
        let float: Vec<u8> = [0.5f32, -0.5]
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        near(half(FLOAT, 32, &float));
        near(half(MULAW, 8, &[0x8f, 0x0f]));
        near(half(ALAW, 8, &[0xa5, 0x25]));
    }

    #[test]
    fn two_channels_stay_apart() {
        let data = pcm16(&[0.25, -0.25, 0.25, -0.25]);
        let audio = read_bytes(&wav(PCM, 2, 44100, 16, &data)).unwrap();
        assert_eq!(audio.rate, 44100);
        assert_eq!(audio.channels, vec![vec![0.25, 0.25], vec![-0.25, -0.25]]);
    }

    #[test]
    fn a_file_that_was_cut_off_gives_what_is_there_and_says_so() {
        let samples = tone(8000, 440.0, 2.0);
        let whole = wav(PCM, 1, 8000, 16, &pcm16(&samples));
        let audio = read_bytes(&whole[..46 + 2 * 9001]).unwrap();
        assert_eq!(audio.channels[0].len() as u64 + audio.missing, 16000);
        assert_eq!(audio.missing, 16000 - 9001);
        let ends_within_a_sample = read_bytes(&whole[..46 + 2 * 9001 + 1]).unwrap();
        assert!(ends_within_a_sample.missing >= 16000 - 9001);
        assert!(ends_within_a_sample.missing < 16000 - 7800);
    }

    #[test]
    fn what_is_no_wav_is_refused_with_the_file_named() {
        for bytes in [
            &b""[..],
            b"RIFF",
            b"ID3\x04 this is something else entirely, not a wave",
        ] {
            let text = read_bytes(bytes).unwrap_err().to_string();
            assert!(text.contains("call.wav is not a WAV file"), "{text}");
        }
    }

    #[test]
    fn a_file_without_sound_is_refused() {
        let error = read_bytes(&wav(PCM, 1, 8000, 16, &[])).unwrap_err();
        assert!(matches!(error, AudioError::Empty(_)), "{error}");
    }

    #[test]
    fn more_than_two_channels_are_refused() {
        let error = read_bytes(&wav(PCM, 4, 8000, 16, &[0; 64])).unwrap_err();
        assert!(error.to_string().contains("has 4 channels"), "{error}");
    }

    #[test]
    fn a_missing_file_and_a_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("nothing.wav"), folder.path().to_owned()] {
            let error = read(&path).unwrap_err();
            assert!(matches!(error, AudioError::Unreadable { .. }), "{error}");
        }
    }

    #[test]
    fn resampling_keeps_length_pitch_level_and_time() {
        for (from, to) in [(44100, 8000), (8000, 16000), (48000, 16000), (11025, 8000)] {
            let input = tone(from, 440.0, 1.5);
            let output = resample(&input, from, to).unwrap();
            let expected = tone(to, 440.0, 1.5);
            assert!(output.len().abs_diff(expected.len()) <= 1, "{from} to {to}");
            // The ends ring, as band-limiting a tone that starts abruptly must.
            let inner = to as usize / 10..expected.len() - to as usize / 10;
            let error = output[inner.clone()]
                .iter()
                .zip(&expected[inner])
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            // The resampler's delay is taken off in whole samples, so half a sample is left.
            let half_a_sample = 0.5 * TAU * 440.0 * 0.5 / to as f32;
            assert!(error < half_a_sample + 0.005, "{from} to {to}: {error}");
        }
    }

    #[test]
    fn resampling_down_removes_what_the_lower_rate_cannot_carry() {
        let output = resample(&tone(44100, 6000.0, 1.0), 44100, 8000).unwrap();
        let loudest = output[800..7200].iter().fold(0.0f32, |m, s| m.max(s.abs()));
        assert!(loudest < 0.005, "{loudest}");
    }
}
