#!/usr/bin/env python3
"""Measures transcription: errors, invented words and names, as the Markdown tables of docs/figures.md.

    python3 benches/transcribe/eval.py [--coach target/release/coach] [--only en,es]

- Word and character error rates beside faster-whisper on the same weights: the clips of compare.py, and the project's own
  sentences (names/) in synthetic voices, clean and through a telephone line.
- Words invented in clips in which nobody speaks (noises.py).
- A tenant's names, without and with its vocabulary, in those sentences and in speech that holds none of them.

What cannot be had (shared data, voices) is left out, with a word on standard error. What it compares with and the audio
are made in the cache, once.
"""

import argparse
import functools
import os
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import compare
import noises
import recall
import speak

BANDS = ("clean", "telephone")


def percent(wrong, total):
    return f"{100 * wrong / total:.1f} %" if total else "-"


def table(head, rows):
    """A Markdown table; columns whose name begins with > stand on the right."""
    print("| " + " | ".join(name.lstrip(">") for name in head) + " |")
    print("|" + "|".join("---:" if name.startswith(">") else "---" for name in head) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


class Speech:
    """Every clip with its truth, and what each side hears in it, asked once."""

    def __init__(self, coach, languages):
        self.binary, self.languages = coach, languages
        self.folder = speak.clips(languages)
        self.whisper = compare.FasterWhisper(1)
        self.clips = list(compare.clips(languages))
        if self.folder:
            for language in languages:
                for band in BANDS:
                    for _, text, _, file in speak.sentences(language):
                        self.clips.append((f"own sentences, {band}", language, self.folder / band / file, {0: text}))

    @functools.cache
    def coach(self, path, language, *arguments):
        """What coach hears, by channel."""
        return compare.Coach(self.binary, *arguments).transcribe(path, language)[0]

    def ahead(self, jobs):
        """Asks coach for many clips at once, so that the answers are there when they are looked at."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job: self.coach(*job), jobs))


def keywords(languages):
    """(language, path, words that are in it) of the shared telephone recordings without a transcript."""
    for clip, folder in compare.shared_clips():
        if clip.get("keywords") and not clip.get("text") and clip["lang"] in languages:
            yield clip["lang"], folder / clip["audio_tel8k"], clip["keywords"]


def show_errors(speech):
    print("### Errors beside faster-whisper\n")
    counts = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    speech.ahead([(path, language) for _, language, path, _ in speech.clips])
    for kind, language, path, spoken in speech.clips:
        print(path.name, file=sys.stderr)
        sides = {"coach": speech.coach(path, language), "faster-whisper": speech.whisper.transcribe(path, language)[0]}
        for side, heard in sides.items():
            for unit, split in (("words", compare.words), ("characters", compare.characters)):
                for channel, text in spoken.items():
                    truth = split(text, language)
                    count = counts[kind, language][side, unit]
                    count[0] += compare.errors(truth, split(heard.get(channel, ""), language))
                    count[1] += len(truth)
    columns = [(side, unit) for side in ("coach", "faster-whisper") for unit in ("words", "characters")]
    rows = [
        (kind, language, counts[kind, language]["coach", "words"][1], *(percent(*counts[kind, language][column]) for column in columns))
        for kind, language in sorted(counts)
    ]
    head = ["audio", "language", ">words", *(f">{side}: {unit} wrong" for side, unit in columns)]
    table(head, rows)

    found = defaultdict(lambda: [0, 0, 0])
    for language, path, wanted in keywords(speech.languages):
        heard = " ".join(speech.coach(path, language).values())
        other = " ".join(speech.whisper.transcribe(path, language)[0].values())
        count = found[language]
        count[0] += len(wanted)
        for side, text in enumerate((heard, other), 1):
            count[side] += len(recall.names_in(wanted, text, language))
    if found:
        print("Words known to be in real telephone recordings:\n")
        table(["language", ">words", ">coach heard", ">faster-whisper heard"], [(key, *found[key]) for key in sorted(found)])


def show_inventions(speech):
    print("### Words invented where nobody speaks\n")
    with tempfile.TemporaryDirectory() as folder:
        paths = noises.make(Path(folder))
        seconds = sum(map(compare.seconds, paths))
        spoken = ("auto", *speech.languages)
        speech.ahead([(path, language) for path in paths for language in spoken])
        rows = []
        for language in spoken:
            texts = [" ".join(speech.coach(path, language).values()) for path in paths]
            for path, text in zip(paths, texts):
                if text:
                    print(f"{path.name} in {language}: {text}", file=sys.stderr)
            count = sum(len(text) if language == "zh" else len(text.split()) for text in texts)
            rows.append((language, len(paths), f"{seconds:.0f}", sum(map(bool, texts)), count))
    table(["language", ">clips", ">seconds", ">clips with words", ">words"], rows)


def show_names(speech):
    if not speech.folder:
        return
    print("### A tenant's names, without and with its vocabulary\n")
    spoken, silent = [], []
    with tempfile.TemporaryDirectory() as folder:
        for language in speech.languages:
            sentences = list(speak.sentences(language))
            names = [name for name, _, _, _ in sentences]
            file = Path(folder) / f"{language}.txt"
            file.write_text("\n".join(names) + "\n", "utf-8")
            with_names = ("--vocabulary", file)
            held_out = [sentence for sentence in sentences if sentence[2] == "test"]
            for band in BANDS:
                paths = [speech.folder / band / sentence[3] for sentence in held_out]
                speech.ahead([(path, language, *with_names) for path in paths])
                cells = [named(speech, language, names, zip(held_out, paths), arguments) for arguments in ((), with_names)]
                pairs = [f"{before} → {after}" for before, after in zip(*cells)]
                spoken.append((language, band, len(held_out), *pairs))
            silent.append((language, len(names), *unspoken(speech, language, names, with_names)))
    table(["language", "line", ">names spoken", ">heard", ">others put in", ">other words wrong"], spoken)
    print("In speech without any of these names:\n")
    table(["language", ">names", ">words spoken", ">names put in", ">words wrong without", ">with"], silent)


def named(speech, language, names, sentences, arguments):
    """(names heard, other names, errors in other words) of the sentences."""
    heard = others = wrong = total = 0
    for (name, text, _, _), path in sentences:
        answer = " ".join(speech.coach(path, language, *arguments).values())
        found = recall.names_in(names, answer, language)
        heard += name in found
        others += len([other for other in found if other != name])
        errors, count = recall.other_errors(name, text, answer, language)
        wrong, total = wrong + errors, total + count
    return heard, others, percent(wrong, total)


def unspoken(speech, language, names, arguments):
    """(words, names put in, errors without and with the vocabulary) in clips that hold none of the names."""
    total = put_in = 0
    wrong = [0, 0]
    clips = [clip for clip in speech.clips if clip[1] == language and not clip[0].startswith("own")]
    speech.ahead([(path, language, *arguments) for _, _, path, _ in clips])
    for _, _, path, spoken in clips:
        for channel, text in spoken.items():
            truth = compare.words(text, language)
            total += len(truth)
            there = recall.names_in(names, text, language)
            for side, extra in enumerate(((), arguments)):
                heard = speech.coach(path, language, *extra).get(channel, "")
                wrong[side] += compare.errors(truth, compare.words(heard, language))
            put_in += len([name for name in recall.names_in(names, heard, language) if name not in there])
    return total, put_in, *(percent(count, total) for count in wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coach", default=compare.PROJECT / "target/release/coach", type=Path, help="the binary")
    parser.add_argument("--only", default=",".join(compare.LANGUAGES), help="languages, comma-separated")
    options = parser.parse_args()
    compare.enter_environment()

    speech = Speech(options.coach, tuple(options.only.split(",")))
    print("## Transcription\n")
    show_errors(speech)
    show_inventions(speech)
    show_names(speech)


if __name__ == "__main__":
    main()
