#!/usr/bin/env python3
"""Has the project's own transcription hear the labelled sentences: a synthetic voice speaks them, a telephone line carries
them, `coach transcribe` writes down what it hears. Writes models/data/heard.jsonl, one object a sentence: its id and the text
as heard. Sentences that are in it already are kept as they are.

    python3 models/training/hear.py --coach PATH [--test N] [--train N] [en es fr zh]

Of each language's held-out and other sentences of customers at most so many are heard, chosen by their ids' hashes.
Voices come with producers/samples. A sentence takes about as long as it is to speak.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "producers" / "samples"
HEARD = HERE.parent / "data" / "heard.jsonl"
sys.path[:0] = [str(HERE), str(SAMPLES)]

STYLES = {
    "en": ("af_heart", "am_michael", "bf_emma", "bm_george", "af_bella", "am_fenrir"),
    "es": ("ef_dora", "em_alex", "em_santa"),
    "fr": ("ff_siwis",),
    "zh": ("zf_xiaobei", "zm_yunjian", "zf_xiaoxiao", "zm_yunxi"),
}
PACES = (0.95, 1.05, 1.15, 1.25)
GAP_S = 1.5  # between two sentences of a recording
TOGETHER = 20  # sentences a recording


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coach", required=True, help="the coach binary")
    parser.add_argument("--test", type=int, default=100, help="held-out sentences a language (default: %(default)s)")
    parser.add_argument("--train", type=int, default=260, help="other sentences a language (default: %(default)s)")
    parser.add_argument("languages", nargs="*", help="en es fr zh (default: all, each in a process of its own)")
    options = parser.parse_args()
    import make

    folder = make.enter(__file__)
    if len(options.languages) != 1:
        # eSpeak holds one language a process.
        for language in options.languages or STYLES:
            limits = ["--test", options.test, "--train", options.train]
            command = [sys.executable, __file__, "--coach", options.coach, *limits, language]
            subprocess.run([str(part) for part in command], check=True)
        return
    from voice import Voice

    (language,) = options.languages
    rows, voice = wanted(language, options), Voice(language, folder / "styles")
    for start in range(0, len(rows), TOGETHER):
        hear(rows[start : start + TOGETHER], language, options.coach, voice)
        print(f"\r{language}: {min(start + TOGETHER, len(rows))} of {len(rows)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def wanted(language, options):
    """The chosen sentences that have not been heard yet."""
    from sentences import own, part

    known = {json.loads(line)["id"] for line in HEARD.read_text("utf-8").splitlines()} if HEARD.exists() else set()
    rows = [row for row in own() if row["language"] == language and row["speaker"] == "customer"]
    rows.sort(key=lambda row: digest(row["id"]))
    test = [row for row in rows if part(row) == "test"][: options.test]
    other = [row for row in rows if part(row) != "test"][: options.train]
    return [row for row in test + other if row["id"] not in known]


def hear(rows, language, coach, voice):
    import numpy as np
    import telephone
    import wav
    from voice import RATE

    parts, places, at = [], [], 0
    for row in rows:
        number = digest(row["id"])
        style, pace = STYLES[language][number % len(STYLES[language])], PACES[number // 64 % len(PACES)]
        spoken = telephone.turn(voice.say(row["text"], style, pace), RATE)
        gap = np.zeros(int(GAP_S * telephone.RATE))
        parts += [gap, spoken]
        places.append((at + len(gap), at + len(gap) + len(spoken)))
        at += len(gap) + len(spoken)
    parts.append(np.zeros(int(GAP_S * telephone.RATE)))
    samples = np.concatenate(parts)
    samples = telephone.mu_law(samples + telephone.hiss(len(samples), 0))
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "spoken.wav"
        wav.write(path, samples[:, None], telephone.RATE)
        command = [coach, "transcribe", str(path), "--language", language, "--workers", "1"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    utterances = [json.loads(line) for line in output.splitlines()]
    with open(HEARD, "a", encoding="utf-8") as file:
        for row, (start, end) in zip(rows, places):
            begin_ms, end_ms = start * 1000 / telephone.RATE, end * 1000 / telephone.RATE
            inside = [u["text"] for u in utterances if begin_ms - 500 < (u["start_ms"] + u["end_ms"]) / 2 < end_ms + 500]
            text = ("" if language == "zh" else " ").join(inside)
            if text:  # what was not heard at all never reaches the model
                file.write(json.dumps({"id": row["id"], "text": text}, ensure_ascii=False) + "\n")


def digest(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


if __name__ == "__main__":
    main()
