#!/usr/bin/env python3
"""Makes clips in which nobody says a word: silence, noise, tones, music, and the sounds of people and desks.

    python3 benches/transcribe/noises.py FOLDER [NAME...]

8 kHz, 16 bit, one channel, once through mu-law, and the same every time: each clip's random numbers begin at its name.
Needs only the standard library. Prints each file's name.
"""

import array
import math
import random
import sys
import wave
import zlib
from itertools import cycle
from pathlib import Path

RATE = 8_000  # samples a second
TAU = 2 * math.pi
PEAK = 0.9
MU = 255


# === what sounds are made of: each gives so many seconds of samples


def samples(seconds):
    return range(round(seconds * RATE))


def quiet(seconds):
    return [0.0] * len(samples(seconds))


def white(seconds, chance):
    return [chance.gauss(0, 1) for _ in samples(seconds)]


def low(sound, hertz):
    """Without what is above so many hertz."""
    share, level, out = 1 - math.exp(-TAU * hertz / RATE), 0.0, []
    for sample in sound:
        level += share * (sample - level)
        out.append(level)
    return out


def high(sound, hertz):
    return [sample - bass for sample, bass in zip(sound, low(sound, hertz))]


def around(sound, hertz, width):
    """What is near so many hertz: a resonance."""
    radius = math.exp(-math.pi * width / RATE)
    first, second = 2 * radius * math.cos(TAU * hertz / RATE), -radius * radius
    out, last, before = [], 0.0, 0.0
    for sample in sound:
        last, before = (1 - radius) * sample + first * last + second * before, last
        out.append(last)
    return out


def tones(seconds, *hertz):
    return [sum(math.sin(TAU * pitch * i / RATE) for pitch in hertz) / len(hertz) for i in samples(seconds)]


def cadence(seconds, sound, on, off):
    """The sound, on and off by turns."""
    return [sample if i / RATE % (on + off) < on else 0.0 for i, sample in zip(samples(seconds), sound)]


def mixed(*parts):
    return [sum(values) for values in zip(*parts)]


def shaped(sound, envelope):
    """Louder and softer: the envelope is a function of seconds."""
    return [sample * envelope(i / RATE) for i, sample in enumerate(sound)]


def struck(seconds, times, make):
    """Short sounds at these seconds."""
    out = quiet(seconds)
    for begin in times:
        for i, sample in enumerate(make(), round(begin * RATE)):
            if i < len(out):
                out[i] += sample
    return out


def now_and_then(seconds, chance, shortest, longest):
    """Seconds at which something happens again."""
    times, at = [], chance.uniform(0.2, longest)
    while at < seconds:
        times.append(at)
        at += chance.uniform(shortest, longest)
    return times


def at_level(sound, decibels):
    """With its mean power so far below full scale."""
    power = math.sqrt(sum(sample * sample for sample in sound) / max(len(sound), 1))
    gain = 10 ** (decibels / 20) / power if power else 0.0
    return [sample * gain for sample in sound]


# === what they are


def pink(seconds, chance):
    return mixed(*(low(white(seconds, chance), hertz) for hertz in (60, 250, 1000, 4000)))


def murmur(seconds, chance, talkers):
    """A room full of voices of which no word is one: buzzing sources through vowels that drift, in random syllables."""
    voices = []
    for _ in range(talkers):
        pitch, phase, buzz = chance.uniform(90, 220), 0.0, []
        for i in samples(seconds):
            phase += pitch * (1 + 0.08 * math.sin(TAU * 0.7 * i / RATE)) / RATE
            buzz.append(2 * (phase % 1) - 1 + chance.gauss(0, 0.2))
        vowel = mixed(around(buzz, chance.uniform(300, 800), 90), around(buzz, chance.uniform(1000, 2200), 140))
        beat, offset = chance.uniform(2.5, 5), chance.uniform(0, 7)
        voices.append(shaped(vowel, lambda t, b=beat, o=offset: max(0.0, math.sin(TAU * b * t + o)) * (0.6 + 0.4 * math.sin(0.9 * t + o))))
    return mixed(*voices)


def melody(seconds, notes, beat, decay, overtones=(1, 0.4)):
    """Plucked notes, one a beat."""
    out, pitches = [], cycle(notes)
    for _ in range(math.ceil(seconds / beat)):
        pitch = next(pitches)
        for i in samples(beat):
            time = i / RATE
            ring = sum(part * math.sin(TAU * pitch * (n + 1) * time) for n, part in enumerate(overtones))
            out.append(ring * math.exp(-decay * time))
    return out[: len(samples(seconds))]


def pad(seconds, chords, length, vibrato=0.0):
    """Chords that swell and sink."""
    out = []
    for number in range(math.ceil(seconds / length)):
        for i in samples(length):
            time = i / RATE
            sway = 1 + vibrato * math.sin(TAU * 5.5 * time) / 100
            sound = sum(math.sin(TAU * pitch * time * sway) + 0.3 * math.sin(TAU * 2 * pitch * time * sway) for pitch in chords[number % len(chords)])
            out.append(sound * math.sin(math.pi * i / (length * RATE)))
    return out[: len(samples(seconds))]


def drums(seconds, chance, beat):
    def hit():
        return shaped(white(0.12, chance), lambda t: math.exp(-40 * t))

    def kick():
        return [2 * math.sin(TAU * (60 + 60 * math.exp(-30 * i / RATE)) * i / RATE) * math.exp(-18 * i / RATE) for i in samples(0.2)]

    times = [number * beat for number in range(int(seconds / beat))]
    return mixed(struck(seconds, times[::2], kick), struck(seconds, times[1::2], hit))


def keys(seconds, chance):
    def key():
        return shaped(around(white(0.03, chance), chance.uniform(1500, 3200), 900), lambda t: math.exp(-150 * t))

    return struck(seconds, now_and_then(seconds, chance, 0.06, 0.35), key)


def cough(chance):
    """One burst, as out of a throat: a hard beginning, a rough tail, no vowel."""
    length = chance.uniform(0.2, 0.4)
    rough = mixed(around(white(length, chance), 500, 300), around(white(length, chance), 1500, 600))
    return shaped(rough, lambda t: min(1.0, 80 * t) * math.exp(-9 * t))


def breath(seconds, chance):
    air = mixed(around(white(seconds, chance), 900, 800), around(white(seconds, chance), 2200, 1200))
    return shaped(air, lambda t: max(0.0, math.sin(TAU * 0.28 * t)) ** 2)


def laugh(chance):
    """Five puffs of voice without a word."""
    out = []
    for number in range(5):
        pitch = 220 - 12 * number + chance.uniform(-8, 8)
        puff = [2 * (pitch * i / RATE % 1) - 1 + chance.gauss(0, 0.6) for i in samples(0.11)]
        out += shaped(mixed(around(puff, 650, 120), around(puff, 1200, 160)), lambda t: math.sin(math.pi * t / 0.11))
        out += quiet(0.08)
    return out


def bark():
    return [math.sin(TAU * (700 - 1800 * i / RATE) * i / RATE) * math.exp(-14 * i / RATE) for i in samples(0.18)]


DIGITS = [(row, column) for row in (697, 770, 852, 941) for column in (1209, 1336, 1477)]
C, A, F, G = (261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7)
TUNE = (523.3, 587.3, 659.3, 784.0, 659.3, 587.3, 523.3, 392.0)
WALTZ = (392.0, 523.3, 659.3, 349.2, 440.0, 523.3, 392.0, 493.9, 587.3)


def dialled(seconds, chance, each):
    out = []
    while len(out) < seconds * RATE:
        out += tones(each, *chance.choice(DIGITS)) + quiet(each)
    return out[: len(samples(seconds))]


# === the clips: name, decibels below full scale, sound

CLIPS = {
    "silence": (0, lambda c: quiet(20)),
    "silence-dither": (-84, lambda c: white(10, c)),
    "silence-hum-50": (-52, lambda c: tones(15, 50, 100, 150)),
    "silence-hum-60-loud": (-30, lambda c: tones(10, 60, 120, 180, 240)),
    "white-soft": (-60, lambda c: white(15, c)),
    "white": (-42, lambda c: white(20, c)),
    "white-loud": (-24, lambda c: white(8, c)),
    "pink": (-45, lambda c: pink(15, c)),
    "pink-loud": (-25, lambda c: pink(10, c)),
    "brown": (-30, lambda c: low(white(12, c), 80)),
    "wind": (-28, lambda c: shaped(low(white(15, c), 500), lambda t: 1 + math.sin(1.1 * t) * math.sin(2.7 * t))),
    "murmur": (-40, lambda c: murmur(12, c, 8)),
    "murmur-loud": (-24, lambda c: murmur(10, c, 12)),
    "murmur-near": (-22, lambda c: murmur(8, c, 3)),
    "crackle": (-35, lambda c: struck(15, now_and_then(15, c, 0.02, 0.4), lambda: [c.gauss(0, 1) for _ in range(12)])),
    "static-bursts": (-28, lambda c: cadence(12, white(12, c), 0.4, 1.3)),
    "mobile-buzz": (-26, lambda c: [1.0 if i * 217 / RATE % 1 < 0.12 else 0.0 for i in samples(8)]),
    "digits-dialled": (-18, lambda c: dialled(6, c, 0.1)),
    "digits-dialled-slowly": (-24, lambda c: dialled(10, c, 0.35)),
    "dial-tone": (-20, lambda c: tones(8, 350, 440)),
    "ring-back-american": (-22, lambda c: cadence(24, tones(24, 440, 480), 2, 4)),
    "ring-back-european": (-22, lambda c: cadence(25, tones(25, 425), 1, 4)),
    "busy-american": (-20, lambda c: cadence(10, tones(10, 480, 620), 0.5, 0.5)),
    "busy-european": (-22, lambda c: cadence(10, tones(10, 425), 0.48, 0.48)),
    "fax": (-20, lambda c: cadence(14, tones(14, 1100), 0.5, 3)),
    "out-of-service": (-20, lambda c: (tones(0.35, 950) + tones(0.35, 1400) + tones(0.35, 1800) + quiet(1)) * 4),
    "hold-music-plucked": (-22, lambda c: mixed(melody(30, TUNE, 0.33, 6), [0.3 * s for s in pad(30, (C, A), 2.64)])),
    "hold-music-strings": (-20, lambda c: pad(24, (C, A, F, G), 2.5, vibrato=0.4)),
    "hold-music-box": (-26, lambda c: melody(16, [2 * p for p in WALTZ], 0.28, 4, (1, 0, 0.3))),
    "hold-music-beat": (-18, lambda c: mixed(melody(20, TUNE, 0.25, 5, (1, 0.6, 0.4)), drums(20, c, 0.5))),
    "hold-music-soft": (-44, lambda c: mixed(melody(20, WALTZ, 0.4, 3), [0.05 * s for s in white(20, c)])),
    "hold-music-brass": (-20, lambda c: low(melody(15, (196.0, 196.0, 293.7, 246.9), 0.5, 1.5, (1, 0.9, 0.8, 0.7, 0.5)), 2200)),
    "breathing": (-34, lambda c: breath(18, c)),
    "breathing-close": (-20, lambda c: breath(12, c)),
    "clicks": (-36, lambda c: struck(12, now_and_then(12, c, 0.5, 2.5), lambda: shaped(white(0.01, c), lambda t: math.exp(-400 * t)))),
    "keyboard": (-36, lambda c: keys(15, c)),
    "keyboard-loud": (-24, lambda c: mixed(keys(12, c), [0.02 * s for s in white(12, c)])),
    "coughing": (-24, lambda c: struck(12, now_and_then(12, c, 0.5, 2.2), lambda: cough(c))),
    "coughing-soft": (-38, lambda c: struck(10, now_and_then(10, c, 0.5, 3), lambda: cough(c))),
    "laughing": (-22, lambda c: struck(10, now_and_then(10, c, 1.5, 3), lambda: laugh(c))),
    "barking": (-22, lambda c: struck(8, now_and_then(8, c, 0.3, 1.2), bark)),
    "siren": (-24, lambda c: [math.sin(TAU * 800 * i / RATE + 120 * math.sin(TAU * 0.35 * i / RATE)) for i in samples(9)]),
    "paper": (-32, lambda c: shaped(high(white(8, c), 1200), lambda t: max(0.0, math.sin(5 * t) * math.sin(23 * t)))),
    "steps": (-34, lambda c: struck(12, [0.55 * n for n in range(21)], lambda: shaped(low(white(0.15, c), 300), lambda t: math.exp(-30 * t)))),
}  # fmt: skip


def through_the_line(sound):
    """As 16-bit integers, there and back again between two telephone exchanges."""
    out = array.array("h")
    for sample in sound:
        sample = max(-PEAK, min(PEAK, sample))
        code = round((math.copysign(math.log1p(MU * abs(sample)) / math.log1p(MU), sample) + 1) / 2 * MU)
        folded = code / MU * 2 - 1
        out.append(round(math.copysign(math.expm1(abs(folded) * math.log1p(MU)) / MU, folded) * 32767))
    return out


def make(folder, names=CLIPS):
    """Writes the clips that are missing and gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        level, sound = CLIPS[name]
        path = folder / f"{name}.wav"
        paths.append(path)
        if path.exists():
            continue
        values = sound(random.Random(zlib.crc32(name.encode())))
        new = path.with_suffix(".new")
        with wave.open(str(new), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            octets = through_the_line(at_level(values, level))
            if sys.byteorder == "big":
                octets.byteswap()
            file.writeframes(octets.tobytes())
        new.rename(path)
    return paths


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for made in make(Path(sys.argv[1]), sys.argv[2:] or CLIPS):
        print(made.name)
