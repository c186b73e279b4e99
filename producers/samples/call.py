"""From a written dialogue to a two-channel call and its ground truth."""

import json

import numpy as np
import yaml

import telephone
import voice
import wav

SPEAKERS = ("rep", "customer")  # left, right
TAIL = telephone.RATE // 2  # samples after the last word


def make(folder, language, styles):
    """Writes <language>.wav and, with the times at which each turn really lies in it, <language>.jsonl."""
    dialogue = yaml.safe_load((folder / f"{language}.yaml").read_text("utf-8"))
    turns = place(dialogue, voice.Voice(language, styles))
    samples = mix(turns)
    wav.write(folder / f"{language}.wav", samples, telephone.RATE)
    lines = [json.dumps(truth(turn), ensure_ascii=False) + "\n" for turn in turns]
    (folder / f"{language}.jsonl").write_text("".join(lines), "utf-8")
    print(f"{language}.wav: {len(turns)} turns, {len(samples) / telephone.RATE:.1f} s")


def place(dialogue, speaker):
    """The turns with their samples, and where these start and end in the call, in samples."""
    turns, end = [], 0
    for turn in dialogue["turns"]:
        person = dialogue[turn["speaker"]]
        samples = telephone.turn(speaker.say(turn["text"], person["voice"], person.get("speed", 1.0)), voice.RATE)
        start = end + round(turn["pause"] * telephone.RATE)
        end = start + len(samples)
        turns.append({**turn, "samples": samples, "start": start, "end": end})
    return turns


def mix(turns):
    """The call as float samples of shape (length, 2)."""
    length = max(turn["end"] for turn in turns) + TAIL
    channels = [telephone.hiss(length, seed) for seed in range(len(SPEAKERS))]
    for turn in turns:
        channels[SPEAKERS.index(turn["speaker"])][turn["start"] : turn["end"]] += turn["samples"]
    return telephone.mu_law(np.stack(channels, axis=1))


def truth(turn):
    return {
        "channel": SPEAKERS.index(turn["speaker"]),
        "speaker": turn["speaker"],
        "start_ms": round(turn["start"] * 1000 / telephone.RATE),
        "end_ms": round(turn["end"] * 1000 / telephone.RATE),
        "text": turn["text"],
        **{key: turn[key] for key in ("objections", "resolves") if key in turn},
    }
