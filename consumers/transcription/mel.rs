//! The log-mel spectrogram that Whisper was trained on: 16 kHz, windows of 25 ms every 10 ms,
//! Slaney's filters.

use std::f32::consts::TAU;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// Samples a second that Whisper hears.
pub const RATE: u32 = 16_000;
/// Samples from one frame to the next.
pub const HOP: usize = 160;

const WINDOW: usize = 400;

/// Computes spectrograms of one number of bands.
pub struct Mel {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    bands: Vec<Band>,
}

/// A triangular filter: its weights over the spectrum's bins from `first` on.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

impl Mel {
    /// For spectrograms of `bands` bands: 80 for Whisper up to large-v2, 128 from large-v3 on.
    pub fn new(bands: usize) -> Self {
        let hann = |i: usize| 0.5 - 0.5 * (TAU * i as f32 / WINDOW as f32).cos();
        Self {
            fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
            window: (0..WINDOW).map(hann).collect(),
            bands: filters(bands),
        }
    }

    /// The spectrogram of the samples, cut or followed by silence to `frames` frames: one row of
    /// `frames` values a band.
    pub fn spectrogram(&self, samples: &[f32], frames: usize) -> Vec<f32> {
        let mut windowed = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0.0f32; spectrum.len()];
        const SILENCE: f32 = 1e-10;
        let mut mel = vec![SILENCE.log10(); self.bands.len() * frames];
        for frame in 0..frames {
            let start = (frame * HOP) as isize - WINDOW as isize / 2;
            if start >= samples.len() as isize {
                break;
            }
            for (i, (value, window)) in windowed.iter_mut().zip(&self.window).enumerate() {
                // The start is mirrored, as in the training data.
                let at = (start + i as isize).unsigned_abs();
                *value = window * samples.get(at).copied().unwrap_or(0.0);
            }
            // It fails on buffers of the wrong length only, and these are its own.
            let _ = self
                .fft
                .process_with_scratch(&mut windowed, &mut spectrum, &mut scratch);
            for (power, bin) in power.iter_mut().zip(&spectrum) {
                *power = bin.norm_sqr();
            }
            for (row, band) in self.bands.iter().enumerate() {
                let energy: f32 = band
                    .weights
                    .iter()
                    .zip(&power[band.first..])
                    .map(|(w, p)| w * p)
                    .sum();
                mel[row * frames + frame] = energy.max(SILENCE).log10();
            }
        }
        let loudest = mel.iter().copied().fold(f32::MIN, f32::max);
        for value in &mut mel {
            *value = (value.max(loudest - 8.0) + 4.0) / 4.0;
        }
        mel
    }
}

/// Slaney's filters between 0 Hz and half the rate: even spacing on a scale that is linear below
/// 1 kHz and logarithmic above, each filter of the same area.
fn filters(bands: usize) -> Vec<Band> {
    let hertz = |mel: f64| {
        const LINEAR: f64 = 200.0 / 3.0;
        const KNEE: f64 = 1000.0 / LINEAR;
        if mel < KNEE {
            LINEAR * mel
        } else {
            1000.0 * (6.4f64.ln() / 27.0 * (mel - KNEE)).exp()
        }
    };
    const TOP: f64 = 45.245640471924965; // 8 kHz
    let edges: Vec<f64> = (0..bands + 2)
        .map(|i| hertz(TOP * i as f64 / (bands + 1) as f64))
        .collect();
    edges
        .windows(3)
        .map(|edge| band(edge[0], edge[1], edge[2]))
        .collect()
}

/// The filter that rises from `low` to `middle` and falls to `high`, all in hertz.
fn band(low: f64, middle: f64, high: f64) -> Band {
    let bin = f64::from(RATE) / WINDOW as f64;
    let weight = |i: usize| {
        let hertz = i as f64 * bin;
        let slope = ((hertz - low) / (middle - low)).min((high - hertz) / (high - middle));
        (slope.max(0.0) * 2.0 / (high - low)) as f32
    };
    let all: Vec<f32> = (0..=WINDOW / 2).map(weight).collect();
    let first = all.iter().position(|&w| w > 0.0).unwrap_or(0);
    let end = all
        .iter()
        .rposition(|&w| w > 0.0)
        .map_or(first, |last| last + 1);
    Band {
        first,
        weights: all[first..end].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of two tones, one rising, and noise.
    fn second() -> Vec<f32> {
        let mut state = 1u32;
        let sample = |i: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(state >> 8) / f64::from(1 << 23) - 1.0;
            let t = i as f64 / f64::from(RATE);
            let turn = std::f64::consts::TAU * t;
            let tones = 0.3 * (turn * 440.0).sin() + 0.1 * (turn * (200.0 + 1500.0 * t)).sin();
            (tones + 0.01 * noise) as f32
        };
        (0..RATE as usize).map(sample).collect()
    }

    /// Values of faster-whisper 1.2.1's feature extractor for the same sound and a second of
    /// silence.
    #[test]
    fn the_spectrogram_is_the_one_whisper_was_trained_on() {
        let frames = 200;
        let mel = Mel::new(80).spectrogram(&second(), frames);
        assert_eq!(mel.len(), 80 * frames);
        for (band, frame, value) in [
            (0, 0, 0.99634),
            (10, 0, 1.21711),
            (20, 50, -0.00925),
            (30, 50, -0.0674),
            (40, 99, 0.01744),
            (60, 10, 0.01971),
            (79, 70, 0.04359),
            (5, 98, -0.11648),
            (12, 100, 1.13077),
            (40, 101, -0.54046),
            (79, 199, -0.65448),
        ] {
            let ours = mel[band * frames + frame];
            assert!(
                (ours - value).abs() < 1e-3,
                "band {band}, frame {frame}: {ours}"
            );
        }
        let mean = mel.iter().sum::<f32>() / mel.len() as f32;
        assert!((mean + 0.266_405).abs() < 1e-4, "{mean}");
    }

    #[test]
    fn the_sound_is_cut_to_the_frames_asked_for() {
        let mel = Mel::new(128).spectrogram(&second(), 60);
        assert_eq!(mel.len(), 128 * 60);
    }
}
