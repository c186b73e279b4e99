"""Chooses which of the encoder's 250,002 pieces to keep for English, Spanish, French and Mandarin, and writes the
choice as one bit a piece to models/training/pieces.bin (compressed).

Kept are all pieces of Chinese characters, all of signs and digits, every single Latin letter, and of the other
pieces in the letters of the three European languages the 37,500 that their words use most, by the word
frequencies of the package wordfreq. A piece left out is written with smaller ones.

    python models/training/vocabulary.py E5_MODEL
"""

import sys
import unicodedata
import zlib
from collections import Counter

import numpy as np
from tokenizers import Tokenizer
from wordfreq import get_frequency_dict

import pieces
import e5small

LETTERS = set("abcdefghijklmnopqrstuvwxyzáéíóúüñàâæçèêëîïôœùûÿ")
EUROPEAN = 37_500
FORMS = ((str.lower, 1.0), (str.capitalize, 0.3), (str.upper, 0.02))  # and how common each is beside the first


def script(character):
    if unicodedata.category(character)[0] in "NPSZ":
        return "sign"
    name = unicodedata.name(character, "")
    if name.startswith("CJK"):
        return "chinese"
    return "european" if character.lower() in LETTERS else "latin" if name.startswith("LATIN") else "other"


def kind(piece):
    """The script of a piece; a sign may stand with any; European letters with other Latin ones are Latin."""
    text = piece.lstrip(pieces.SPACE)
    found = {script(character) for character in text} - {"sign"}
    if not found:
        return "sign"
    if found == {"latin"} and len(text) == 1:
        return "letter"
    return found.pop() if len(found) == 1 else "other"


def usage(tokenizer):
    """How often each piece would be used if every word came as often as in its language."""
    used = Counter()
    for language in ("en", "es", "fr"):
        words = sorted(get_frequency_dict(language, wordlist="large").items())
        for form, share in FORMS:
            coded = tokenizer.encode_batch([form(word) for word, _ in words], add_special_tokens=False)
            for encoding, (_, frequency) in zip(coded, words):
                used.update({piece: frequency * share for piece in encoding.ids})
    return used


def main():
    tokens = e5small.Model(sys.argv[1]).tokens
    kinds = [kind(piece) for piece in tokens.pieces]
    everything = np.arange(len(tokens.pieces))
    used = usage(Tokenizer.from_str(pieces.tokenizer(tokens, everything)))
    by_use = sorted(everything, key=lambda i: (-used[i], -tokens.scores[i]))
    kept = np.isin(kinds, ["sign", "chinese", "letter"])
    kept[[i for i in by_use if kinds[i] == "european"][:EUROPEAN]] = True
    kept[[i for i in everything if len(tokens.pieces[i].lstrip(pieces.SPACE)) == 1 and kinds[i] != "other"]] = True
    kept[[tokens.begin, tokens.end, tokens.padding, tokens.unknown]] = True
    pieces.PIECES.write_bytes(zlib.compress(np.packbits(kept).tobytes(), 9))
    print(f"{kept.sum()} of {len(kept)} pieces kept")


if __name__ == "__main__":
    main()
