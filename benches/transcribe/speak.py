#!/usr/bin/env python3
"""Speaks the sentences of names/<language>.jsonl with the voices of the sample calls, into the cache.

    python3 benches/transcribe/speak.py [en es fr zh]

Each sentence is made twice: clean at 16 kHz, and as it comes out of a telephone line at 8 kHz. Prints the folder. What is
there already is not made again. Runs in the environment of producers/samples/make.py, which it makes: that needs Linux,
npm and, once, the network.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent.parent / "producers/samples"
VOICES = {
    "en": ("af_heart", "am_michael"),
    "es": ("ef_dora", "em_alex"),
    "fr": ("ff_siwis", "pm_alex"),
    "zh": ("zf_xiaobei", "zm_yunxi"),
}
WIDE = 16_000  # samples a second of a clean clip
PAUSE = 0.6  # seconds before and after the words

sys.path.insert(0, str(SAMPLES))


def sentences(language):
    """(name, sentence, whether it was there to choose thresholds by, file name) of each line."""
    lines = (HERE / "names" / f"{language}.jsonl").read_text("utf-8").splitlines()
    for number, line in enumerate(map(json.loads, lines)):
        spoken = f"{VOICES[language][number % 2]} {line['text']}"
        file = f"{language}-{number:02}-{hashlib.sha256(spoken.encode()).hexdigest()[:8]}.wav"
        yield line["name"], line["text"], line["part"], file


def folder():
    import make

    return make.cache() / "bench" / "names"


def clips(languages):
    """The folder with every clip in it, made where they are missing; None, with a word why, where they cannot be."""
    made = folder()
    for language in languages:
        wanted = [made / band / file for _, _, _, file in sentences(language) for band in ("clean", "telephone")]
        if all(path.exists() for path in wanted):
            continue
        # One process a language: eSpeak NG can hold only one.
        done = subprocess.run([sys.executable, __file__, language], stdout=sys.stderr)
        if done.returncode != 0:
            print(f"no voice for {language}: what is measured on its synthetic speech is left out", file=sys.stderr)
            return None
    return made


def speak(language):
    import numpy as np
    from scipy.signal import resample_poly

    import telephone
    import voice
    import wav

    speaker = voice.Voice(language, Path(sys.prefix) / "styles")
    made = folder()
    for band in ("clean", "telephone"):
        (made / band).mkdir(parents=True, exist_ok=True)
    for number, (_, text, _, file) in enumerate(sentences(language)):
        clean, narrow = made / "clean" / file, made / "telephone" / file
        if clean.exists() and narrow.exists():
            continue
        samples = speaker.say(text, VOICES[language][number % 2], speed=1.0)
        wide = np.pad(resample_poly(samples, WIDE, voice.RATE), round(PAUSE * WIDE))
        line = np.pad(telephone.turn(samples, voice.RATE), round(PAUSE * telephone.RATE))
        line = telephone.mu_law(line + telephone.hiss(len(line), number))
        for path, sound, rate in ((clean, wide * 0.5 / np.abs(wide).max(), WIDE), (narrow, line, telephone.RATE)):
            new = path.with_suffix(".new")
            wav.write(new, sound[:, None], rate)
            new.rename(path)
    print(f"{language}: spoken", file=sys.stderr)


def main():
    import make

    make.enter(__file__)
    languages = sys.argv[1:] or list(VOICES)
    if len(languages) == 1:
        speak(*languages)
    else:
        print(clips(languages))


if __name__ == "__main__":
    main()
