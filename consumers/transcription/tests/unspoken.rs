//! What is no speech gives no words.

use std::f32::consts::TAU;
use std::process::Command;

use super::*;

/// Values between -1 and 1 that look random and are the same every time.
fn noise() -> impl FnMut() -> f32 {
    let mut state = 1u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    }
}

fn silence(seconds: usize) -> Vec<f32> {
    vec![0.0; 8000 * seconds]
}

/// The line's own hiss.
fn hiss(seconds: usize) -> Vec<f32> {
    let mut noise = noise();
    (0..8000 * seconds).map(|_| 0.02 * noise()).collect()
}

/// Hold music: a plucked melody over chords, with some hiss.
pub(super) fn hold_music(seconds: usize) -> Vec<f32> {
    const MELODY: [f32; 8] = [
        523.25, 587.33, 659.25, 783.99, 659.25, 587.33, 523.25, 392.0,
    ];
    const CHORDS: [[f32; 3]; 2] = [[261.63, 329.63, 392.0], [220.0, 261.63, 329.63]];
    let mut noise = noise();
    let tone = |hertz: f32, t: f32| (TAU * hertz * t).sin() + 0.4 * (TAU * 2.0 * hertz * t).sin();
    (0..8000 * seconds)
        .map(|i| {
            let t = i as f32 / 8000.0;
            let (beat, since) = ((t * 3.0) as usize, (t * 3.0).fract() / 3.0);
            let pluck = tone(MELODY[beat % MELODY.len()], t) * (-6.0 * since).exp();
            let chord: f32 = CHORDS[beat / 8 % 2]
                .iter()
                .map(|&hertz| tone(hertz, t))
                .sum();
            0.15 * pluck + 0.04 * chord + 0.003 * noise()
        })
        .collect()
}

#[tokio::test]
async fn silence_hiss_and_hold_music_give_no_words() {
    let mut recorder = recorder();
    for (name, samples) in [
        ("silence", silence(20)),
        ("hiss", hiss(20)),
        ("hold music", hold_music(30)),
    ] {
        let recording = Audio {
            rate: 8000,
            channels: vec![samples],
            missing: 0,
        };
        for language in [None, Some(Language::En), Some(Language::Zh)] {
            let lines = transcribe(&mut recorder, &recording, language).await;
            assert_eq!(lines, [], "{name} in {language:?}");
        }
    }
}

/// Even when voice activity is fooled, Whisper's guards keep invented words out.
#[tokio::test]
async fn what_is_no_speech_gives_no_words_when_it_reaches_whisper() {
    let transcriber = Transcriber::open(&onnx::cache_dir(), "whisper-base", 1).unwrap();
    for (name, samples) in [
        ("silence", silence(3)),
        ("hiss", hiss(5)),
        ("music", hold_music(8)),
    ] {
        for &language in Language::ALL {
            let samples = audio::resample(&samples, 8000, 16_000).unwrap();
            let choice = LanguageChoice::Known(language);
            let words = transcriber
                .transcribe(samples, choice, Arc::default())
                .await
                .unwrap();
            assert_eq!(words.text, "", "{name} in {language}: {words:?}");
        }
    }
}

/// Clips of `benches/transcribe/noises.py`, which `benches/transcribe/eval.py` has all of: those
/// that have fooled voice activity, and some of each other kind.
#[tokio::test]
async fn lines_tones_music_and_coughs_give_no_words() {
    const CLIPS: [&str; 10] = [
        "hold-music-strings",
        "hold-music-brass",
        "murmur-loud",
        "murmur-near",
        "barking",
        "laughing",
        "coughing",
        "ring-back-european",
        "digits-dialled",
        "breathing-close",
    ];
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/transcribe/noises.py");
    let made = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .args(CLIPS)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut recorder = recorder();
    for name in CLIPS {
        let recording = audio::read(&folder.path().join(format!("{name}.wav"))).unwrap();
        for language in [None, Some(Language::En), Some(Language::Zh)] {
            let lines = transcribe(&mut recorder, &recording, language).await;
            assert_eq!(lines, [], "{name} in {language:?}");
        }
    }
}
