//! WAV files.

use producers::audio;
use producers::wav::Recording;
use proptest::prelude::*;

use crate::bytes::near;
use crate::fuzz;

/// A short file of one or two channels.
fn valid(channels: u16, bits: u16) -> Vec<u8> {
    let (rate, frames) = (8_000_u32, 64_u32);
    let block = channels * bits / 8;
    let length = frames * u32::from(block);
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(block)).to_le_bytes());
    file.extend(block.to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend((0..length).map(|n| (n * 37) as u8));
    file
}

#[test]
fn a_file_of_any_bytes_is_a_recording_or_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.wav");
    let shapes = [(1, 8), (1, 16), (2, 16), (2, 24), (1, 32), (3, 16)];
    let valid: Vec<Vec<u8>> = shapes.map(|(channels, bits)| valid(channels, bits)).into();
    fuzz(&near(valid), |bytes| {
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(audio) = audio::read(&path) {
            prop_assert!((1..=2).contains(&audio.channels.len()));
            let length = audio.channels[0].len();
            prop_assert!(audio.channels.iter().all(|channel| channel.len() == length));
            prop_assert!(
                length <= bytes.len(),
                "{length} samples of {} bytes",
                bytes.len()
            );
            // A rate between which nothing resamples is refused, not played wrong.
            if let Ok(recording) = Recording::new(&audio) {
                prop_assert!(recording.duration_ms() >= 0);
            }
        }
        Ok(())
    });
}
