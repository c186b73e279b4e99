"""Uncompressed WAV files."""

import wave

import numpy as np


def write(path, samples, rate, width=2):
    """Samples of shape (length, channels) between -1 and 1, as integers of so many bytes."""
    whole = np.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i4")
    octets = whole.view(np.uint8).reshape(*whole.shape, 4)[..., :width]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(octets.tobytes())
