"""The vocabulary: which pieces of multilingual-e5-small are kept, and the tokenizer over them."""

import json
import zlib
from pathlib import Path

import numpy as np

PIECES = Path(__file__).resolve().parent / "pieces.bin"
SPACE = "\u2581"
CONTROLS = "[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"
SPACES = "[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"


def kept_pieces(tokens):
    """The ids of the pieces to keep, in order; their places become the new ids."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(PIECES.read_bytes()), np.uint8))
    return np.flatnonzero(bits[: len(tokens.pieces)])


def tokenizer(tokens, kept):
    """A tokenizer.json over the kept pieces, with the normalisation the model was trained with."""
    place = {int(old): new for new, old in enumerate(kept)}
    specials = [tokens.begin, tokens.padding, tokens.end, tokens.unknown]
    begin, end = tokens.pieces[tokens.begin], tokens.pieces[tokens.end]

    def replace(pattern, content):
        return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

    def special(name, old):
        return {"id": name, "ids": [place[old]], "tokens": [name]}

    template = [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template.append({"SpecialToken": {"id": end, "type_id": 0}})
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(place[old], tokens.pieces[old]) for old in specials],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [replace(CONTROLS, ""), replace(SPACES, " "), {"type": "NFKC"}, replace(" {2,}", " ")],
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template,
            "pair": [*template, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {begin: special(begin, tokens.begin), end: special(end, tokens.end)},
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": place[tokens.unknown],
            "vocab": [[tokens.pieces[old], float(tokens.scores[old])] for old in kept],
            "byte_fallback": False,
        },
    }
    return json.dumps(content, ensure_ascii=False)


def added_token(number, content):
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {"id": number, "content": content, **dict.fromkeys(flags, False), "special": True}


