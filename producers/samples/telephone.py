"""What a telephone line does to a voice: 8 kHz, 300 to 3400 Hz, a steady level, a little hiss, 8-bit mu-law."""

import numpy as np
from scipy.signal import butter, resample_poly, sosfilt

RATE = 8_000  # samples a second
LEVEL = -20.0  # of the voice, in dB below full scale, over the loud parts of a turn
PEAK = 0.7  # no sample beyond this
HISS = -62.0  # dB below full scale
FADE = int(0.008 * RATE)
BAND = butter(4, [300, 3400], "bandpass", fs=RATE, output="sos")
MU = 255


def turn(samples, rate):
    """One turn of a speaker as it comes out of the line."""
    samples = sosfilt(BAND, resample_poly(samples, RATE, rate))
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    power = (frames**2).mean(axis=1)
    speech = np.sqrt(power[power > power.max() / 1000].mean())
    samples = limit(samples * 10 ** (LEVEL / 20) / speech)
    edge = np.sin(np.linspace(0, np.pi / 2, FADE)) ** 2
    samples[:FADE] *= edge
    samples[-FADE:] *= edge[::-1]
    return samples


def limit(samples):
    """Bends what is louder than half the peak, so that nothing is cut off."""
    knee = PEAK / 2
    over = np.abs(samples) - knee
    bent = knee + knee * np.tanh(np.maximum(over, 0) / knee)
    return np.where(over > 0, np.sign(samples) * bent, samples)


def hiss(length, seed):
    noise = sosfilt(BAND, np.random.default_rng(seed).standard_normal(length))
    return noise / noise.std() * 10 ** (HISS / 20)


def mu_law(samples):
    """There and back again, as between two telephone exchanges."""
    code = np.round((np.sign(samples) * np.log1p(MU * np.abs(samples)) / np.log1p(MU) + 1) / 2 * MU)
    folded = code / MU * 2 - 1
    return np.sign(folded) * np.expm1(np.abs(folded) * np.log1p(MU)) / MU
