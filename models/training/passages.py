"""Passages in batches, and in the many forms that speech recognition gives them."""

import random
from typing import NamedTuple

import torch

from mishearing import Mishearing
from sentences import LANGUAGES, as_spoken

PADDING = 1
MISHEARD = 0.25  # of the own sentences in each epoch
POOL = 16  # batches whose passages are sorted by length together


class Passages(NamedTuple):
    """A batch: i64[B, L] token ids, f32[B, L] masks of all tokens and of the utterance's own."""

    ids: torch.Tensor
    mask: torch.Tensor
    own: torch.Tensor

    def to(self, device):
        return Passages(*(part.to(device) for part in self))


def batch(passages):
    """Read passages side by side, the shorter ones padded."""
    length = max(len(ids) for ids, _ in passages)
    ids = torch.full((len(passages), length), PADDING)
    mask, own = torch.zeros(len(passages), length), torch.zeros(len(passages), length)
    for i, (tokens, count) in enumerate(passages):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        mask[i, : len(tokens)] = 1
        own[i, :count] = 1
    return Passages(ids, mask, own)


def batches(passages, size, draw):
    """Places of the passages in random batches of about the same length each."""
    order = draw.sample(range(len(passages)), len(passages))
    found = []
    for start in range(0, len(order), size * POOL):
        pool = sorted(order[start : start + size * POOL], key=lambda place: len(passages[place][0]))
        found += [pool[i : i + size] for i in range(0, len(pool), size)]
    draw.shuffle(found)
    return found


class Variety:
    """A sentence as it might also have been written, heard, or have come after another turn."""

    def __init__(self, rows, seed):
        self.draw = random.Random(seed)
        self.mishearing = Mishearing([row["text"] for row in rows if row["source"] == "zh"], self.draw)
        self.turns = {language: [] for language in LANGUAGES}
        for row in rows:
            if row["source"] in LANGUAGES:
                turn = row.get("before") or {"speaker": row["speaker"], "text": row["text"]}
                if turn["speaker"] == "rep":
                    self.turns[row["source"]].append(turn)

    def of(self, row):
        """(text, turn before)."""
        draw, text, before = self.draw, row["text"], row.get("before")
        if row.get("heard") and draw.random() < 0.4:
            text = row["heard"]
        elif draw.random() < 0.4:
            text = as_spoken(text)
        if row["source"] in LANGUAGES and draw.random() < MISHEARD:
            text = self.mishearing.of(text, row["source"])
        if before and draw.random() < 0.4:
            before = {**before, "text": as_spoken(before["text"])}
        elif not before and row["source"] in LANGUAGES and self.stands_alone(row) and draw.random() < 0.3:
            before = draw.choice(self.turns[row["source"]])
        return self.stumble(text, row["language"]), before

    def stands_alone(self, row):
        """Whether the sentence is long enough to mean the same after any turn."""
        return len(row["text"]) > (12 if row["language"] == "zh" else 30)

    def stumble(self, text, language):
        words = text.split()
        if language == "zh" or len(words) <= 5 or self.draw.random() >= 0.2:
            return text
        place = self.draw.randrange(len(words))
        if self.draw.random() < 0.5:
            words.insert(place, words[place])
        else:
            del words[place]
        return " ".join(words)
