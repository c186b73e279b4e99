"""Reads models in CTranslate2's format (model.bin), the form in which Whisper weights are commonly passed on.

The format, little-endian: u32 version, string specification, u32 revision, u32 count, then per variable a string
name, u8 rank, u32 dimensions, u8 type, u32 bytes, data; then u32 aliases as pairs of strings. A string is a u16
length that counts the closing NUL, then the bytes.
"""

import struct
from pathlib import Path

import numpy as np

VERSION = 6
BFLOAT16 = 5
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16, BFLOAT16: np.uint16}


class FormatError(Exception):
    """The file is not a model that can be read; the text says why."""


class Reader:
    def __init__(self, data, name):
        self.data, self.name, self.at = memoryview(data), name, 0

    def take(self, size):
        end = self.at + size
        if end > len(self.data):
            raise FormatError(
                f"{self.name} is cut short: {size} bytes wanted at {self.at}, the file has {len(self.data)}"
            )
        part, self.at = self.data[self.at : end], end
        return part

    def number(self, form="<I"):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self):
        raw = bytes(self.take(self.number("<H")))
        try:
            return raw.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self.name} has a name that is not text at byte {self.at}") from None

    def variable(self):
        name = self.text()
        shape = tuple(self.number() for _ in range(self.number("<B")))
        kind = self.number("<B")
        data = self.take(self.number())
        if kind not in TYPES:
            raise FormatError(f"{self.name}: {name} has the unknown type {kind}")
        values = np.frombuffer(data, TYPES[kind])
        if values.size != int(np.prod(shape, dtype=np.int64)):
            raise FormatError(f"{self.name}: {name} has {values.size} values for the shape {shape}")
        if kind == BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return name, values.reshape(shape)


def read(path, spec="WhisperSpec"):
    """The variables of a model.bin by name, in the type they are stored in; FormatError when it is none of `spec`."""
    path = Path(path)
    return parse(path.read_bytes(), spec, path.name)


def parse(data, spec, name="model.bin"):
    reader = Reader(data, name)
    version = reader.number()
    if version != VERSION:
        raise FormatError(f"{name} is no CTranslate2 model of version {VERSION} (it begins with {version})")
    found = reader.text()
    if found != spec:
        raise FormatError(f"{name} holds a {found or 'nameless model'}, not a {spec}")
    reader.number()  # the revision of the specification only says which variables may occur
    variables = dict(reader.variable() for _ in range(reader.number()))
    for _ in range(reader.number()):
        alias, target = reader.text(), reader.text()
        if target not in variables:
            raise FormatError(f"{name}: {alias} stands for {target}, which is missing")
        variables[alias] = variables[target]
    return variables


def floats(variables, name):
    """One variable as f32, whatever it is stored in. Integers are stored times a scale, one a row or one in all."""
    if name not in variables:
        raise FormatError(f"the model lacks {name}")
    values = variables[name]
    if not np.issubdtype(values.dtype, np.integer):
        return values.astype(np.float32)
    if name + "_scale" not in variables:
        raise FormatError(f"the model lacks {name}_scale")
    scale = np.asarray(variables[name + "_scale"], np.float32)
    return values.astype(np.float32) / (scale.reshape(-1, *[1] * (values.ndim - 1)) if scale.size > 1 else scale)
