"""A sentence as a bad line leaves it: other words and characters that sound alike, words run together, cut or swallowed.

Real mishearings (heard.jsonl) are few, since each costs a second of speech and recognition; these copy their kinds.
"""

from collections import defaultdict

from pypinyin import Style, lazy_pinyin

# Letters that recognition takes for one another on a telephone line, accents and doubling included.
ALIKE = ["bvp", "dt", "gkcq", "mn", "fv", "szcxç", "lr", "aàâe", "eéèêi", "iíy", "oóôu", "uúùw", "jgy", "nñ"]
NEIGHBOURS = {letter: [other for group in ALIKE if letter in group for other in group if other != letter] for letter in "".join(ALIKE)}
# Beginnings and ends of Mandarin syllables that recognition takes for one another.
BEGINNINGS = [("zh", "z"), ("ch", "c"), ("sh", "s"), ("n", "l"), ("b", "p"), ("d", "t"), ("g", "k"), ("j", "q"), ("h", "f"), ("zh", "j"), ("x", "sh")]
ENDS = [("ng", "n"), ("uo", "ou"), ("ie", "ia"), ("ei", "ai"), ("u", "ou"), ("i", "e")]
LEAST, MOST = 0.04, 0.22  # of the words or characters


class Mishearing:
    """Draws mishearings; Mandarin characters are replaced by ones that the sentences themselves use."""

    def __init__(self, sentences, draw):
        self.draw = draw
        self.spelled = defaultdict(list)
        for sentence in sentences:
            for character in sentence:
                if "一" <= character <= "鿿":
                    self.spelled[sound(character)].append(character)

    def of(self, text, language):
        share = self.draw.uniform(LEAST, MOST)
        if language == "zh":
            return "".join(self.character(c) if self.draw.random() < share else c for c in text)
        return " ".join(self.words(text.split(), share))

    def character(self, character):
        said = sound(character)
        heard = said if self.draw.random() < 0.5 else self.near(said)
        return self.draw.choice(self.spelled.get(heard) or self.spelled.get(said) or [character])

    def near(self, syllable):
        """A syllable with another beginning or end."""
        changed = [b + syllable[len(a):] for pair in BEGINNINGS for a, b in (pair, pair[::-1]) if syllable.startswith(a)]
        changed += [syllable[: -len(a)] + b for pair in ENDS for a, b in (pair, pair[::-1]) if syllable.endswith(a)]
        return self.draw.choice(changed or [syllable])

    def words(self, words, share):
        left = list(words)
        while left:
            word = left.pop(0)
            if self.draw.random() >= share:
                yield word
                continue
            kind = self.draw.random()
            if kind < 0.15 and len(word) <= 3:
                continue
            if kind < 0.35 and left:
                yield word + left.pop(0)
            elif kind < 0.5 and len(word) > 5:
                place = self.draw.randrange(2, len(word) - 2)
                yield from (word[:place], word[place:])
            else:
                yield self.word(word)

    def word(self, word):
        """One or two letters changed or swallowed."""
        for _ in range(1 + (len(word) > 6)):
            place = self.draw.randrange(len(word))
            others = NEIGHBOURS.get(word[place].lower())
            if not others:
                continue
            kept = "" if len(word) > 3 and self.draw.random() < 0.25 else self.draw.choice(others)
            word = word[:place] + kept + word[place + 1 :]
        return word


def sound(character):
    """The syllable of a Mandarin character, without its tone."""
    return lazy_pinyin(character, style=Style.NORMAL)[0]
