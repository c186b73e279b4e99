"""The project's own labelled sentences, how they are split, and the shared data sets beside them. Standard library only."""

import hashlib
import json
import os
import re
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "models" / "data"
SHARED = Path(os.environ.get("SALES_COACH_SHARED", ROOT.parent / "shared")) / "data"
LANGUAGES = ("en", "es", "fr", "zh")
KINDS = ("price", "timing", "authority", "need", "competitor", "trust", "fit", "stall")
SENTIMENTS = ("negative", "neutral", "positive")
TEST, DEV = 15, 8  # hundredths of the situations held out; one in so many of the others chooses thresholds


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def own():
    """The project's own sentences, each with its `source`: a language's file or next_step."""
    return [{**row, "source": name} for name in (*LANGUAGES, "next_step") for row in read(DATA / f"{name}.jsonl")]


def heard():
    """Own sentences as the project's transcription heard them over a telephone line."""
    texts = {row["id"]: row["text"] for row in read(DATA / "heard.jsonl")}
    return [{**row, "text": texts[row["id"]]} for row in own() if row["id"] in texts]


def foreign():
    """Sentences in languages that the model does not know, as rows of the same form."""
    return [{**row, "source": "foreign", "objections": []} for row in read(DATA / "foreign.jsonl")]


def part(row):
    """train, dev or test, by the number of the situation alone, so that echoes in other languages go the same way."""
    number = re.search(r"\d+$", row["situation"])[0].lstrip("0")
    draw = int.from_bytes(hashlib.sha256(number.encode()).digest()[:4], "big")
    if draw % 100 < TEST:
        return "test"
    return "dev" if draw // 100 % DEV == 0 else "train"


def as_spoken(text):
    """The sentence as speech recognition may write it: lower case, no punctuation but apostrophes and hyphens."""
    kept = (c if c in "'’-" or unicodedata.category(c)[0] not in "PS" else " " for c in text.lower())
    return " ".join("".join(kept).split())


def shared(name, **wanted):
    """Rows of a shared data set with the wanted fields, in an order that only the texts decide; none when it is not there."""
    path = SHARED / name / "data.jsonl"
    if not path.exists():
        print(f"{path} is missing: going on without it", file=sys.stderr)
        return []
    rows = [row for row in read(path) if all(row.get(key) == value for key, value in wanted.items())]
    return sorted(rows, key=lambda row: hashlib.sha256(row["text"].encode()).digest())
