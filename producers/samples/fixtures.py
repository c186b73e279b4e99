"""Clips that are not a call, for tests of what a producer and voice activity do with them."""

import numpy as np
from scipy.signal import resample_poly

import telephone
import voice
import wav

SECONDS = 2.5
CHORDS = ((261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7))  # C, Am, F, G
SENTENCE = "Call me tomorrow."
STUDIO_RATE = 44_100  # samples a second


def make(folder, styles):
    folder.mkdir(exist_ok=True)
    wav.write(folder / "hold-music.wav", stereo(telephone.turn(hold_music(), telephone.RATE)), telephone.RATE)
    wav.write(folder / "silence.wav", stereo(np.zeros(int(SECONDS * telephone.RATE))), telephone.RATE)
    wav.write(folder / "mono-44100-24bit.wav", studio(styles)[:, None], STUDIO_RATE, width=3)
    print("fixtures: hold-music.wav, silence.wav, mono-44100-24bit.wav")


def hold_music():
    """Four plucked chords and a melody over them, at 8 kHz."""
    length = int(SECONDS * telephone.RATE) // len(CHORDS)
    time = np.arange(length) / telephone.RATE
    return np.concatenate([chord_with_melody(chord, time) for chord in CHORDS])


def chord_with_melody(chord, time):
    decay = np.exp(-2 * time)
    chords = sum(np.sin(2 * np.pi * pitch * time) + 0.4 * np.sin(4 * np.pi * pitch * time) for pitch in chord) * decay
    notes = np.repeat([chord[2] * 2, chord[1] * 2, chord[0] * 2], -(-len(time) // 3))[: len(time)]
    beat = time % (time[-1] / 3 + 1 / telephone.RATE)
    return chords / 4 + np.sin(2 * np.pi * notes * time) * np.exp(-6 * beat)


def studio(styles):
    """One sentence as a microphone hears it, before any telephone."""
    samples = voice.Voice("en", styles).say(SENTENCE, "am_michael", speed=1.0)
    samples = resample_poly(samples, STUDIO_RATE, voice.RATE)
    return samples * 0.5 / np.abs(samples).max()


def stereo(samples):
    """Both channels of a call, over the line's own hiss."""
    channels = [samples + telephone.hiss(len(samples), seed) for seed in range(2)]
    return telephone.mu_law(np.stack(channels, axis=1))
