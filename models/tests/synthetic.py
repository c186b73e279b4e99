"""A tiny Whisper with random weights, as a folder in CTranslate2's format, and what it computes, in plain numpy."""

import json
import math
import struct
from pathlib import Path

import numpy as np

WIDTH, MELS, AUDIO, TEXT, VOCABULARY, LAYERS, HEAD = 128, 12, 20, 16, 51865, 2, 64
SPECIAL = ["endoftext", "startoftranscript", "en", "zh", "es", "translate", "transcribe", "startofprev", "nospeech", "notimestamps"]


def variables(seed=1):
    random = np.random.default_rng(seed)
    found = {}

    def add(name, *shape, scale=0.2):
        found[name] = (random.standard_normal(shape) * scale).astype(np.float16)

    def linear(name, out, size):
        add(f"{name}/weight", out, size)
        add(f"{name}/bias", out)

    def norm(name):
        add(f"{name}/gamma", WIDTH, scale=1)
        add(f"{name}/beta", WIDTH)

    linear("encoder/conv1", WIDTH, MELS * 3)
    linear("encoder/conv2", WIDTH, WIDTH * 3)
    for name, channels in (("conv1", MELS), ("conv2", WIDTH)):
        found[f"encoder/{name}/weight"] = found[f"encoder/{name}/weight"].reshape(WIDTH, channels, 3)
    add("encoder/position_encodings/encodings", AUDIO, WIDTH)
    add("decoder/position_encodings/encodings", TEXT, WIDTH)
    add("decoder/embeddings/weight", VOCABULARY, WIDTH)
    for side in ("encoder", "decoder"):
        norm(f"{side}/layer_norm")
        for i in range(LAYERS):
            layer = f"{side}/layer_{i}"
            norm(f"{layer}/self_attention/layer_norm")
            linear(f"{layer}/self_attention/linear_0", 3 * WIDTH, WIDTH)
            linear(f"{layer}/self_attention/linear_1", WIDTH, WIDTH)
            norm(f"{layer}/ffn/layer_norm")
            linear(f"{layer}/ffn/linear_0", 2 * WIDTH, WIDTH)
            linear(f"{layer}/ffn/linear_1", WIDTH, 2 * WIDTH)
    for i in range(LAYERS):
        norm(f"decoder/layer_{i}/attention/layer_norm")
        for part, rows in ((0, WIDTH), (1, 2 * WIDTH), (2, WIDTH)):
            linear(f"decoder/layer_{i}/attention/linear_{part}", rows, WIDTH)
    return found


def text(value):
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def packed(found, spec="WhisperSpec", version=6):
    """The bytes of a model.bin."""
    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    parts = [struct.pack("<I", version), text(spec), struct.pack("<II", 3, len(found))]
    for name, values in found.items():
        values = np.asarray(values)
        sizes = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        parts += [text(name), sizes, struct.pack("<BI", kinds[str(values.dtype)], values.nbytes), values.tobytes()]
    parts += [struct.pack("<I", 1), text("decoder/projection/weight"), text("decoder/embeddings/weight")]
    return b"".join(parts)


def write(folder, found):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(packed(found))
    tokens = [{"id": 50257 + i, "content": f"<|{name}|>"} for i, name in enumerate(SPECIAL)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens, "model": {}}))
    config = {"lang_ids": [50259, 50260, 50261], "suppress_ids": [1, 2], "suppress_ids_begin": [220, 50257]}
    (folder / "config.json").write_text(json.dumps(config))


# === the forward pass


def weights(found):
    return {name: values.astype(np.float64) for name, values in found.items()}


def norm(w, name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * w[f"{name}/gamma"] + w[f"{name}/beta"]


def linear(w, name, x):
    return x @ w[f"{name}/weight"].T + w[f"{name}/bias"]


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def conv(w, name, x, stride):
    """x[channels, n] with three taps and one zero at each end."""
    kernel, padded = w[f"{name}/weight"], np.pad(x, ((0, 0), (1, 1)))
    places = range(0, x.shape[1], stride)
    return np.stack([np.einsum("oct,ct->o", kernel, padded[:, i : i + 3]) + w[f"{name}/bias"] for i in places], axis=1)


def attention(query, keys, values, mask=0.0):
    """[S, width] over [N, width], head by head."""
    out = []
    for head in range(WIDTH // HEAD):
        part = slice(head * HEAD, (head + 1) * HEAD)
        scores = query[:, part] @ keys[:, part].T / math.sqrt(HEAD) + mask
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        out.append(shares / shares.sum(-1, keepdims=True) @ values[:, part])
    return np.concatenate(out, axis=1)


def self_attention(w, layer, x, mask=0.0):
    fused = linear(w, f"{layer}/self_attention/linear_0", norm(w, f"{layer}/self_attention/layer_norm", x))
    mixed = attention(*np.split(fused, 3, axis=1), mask)
    return x + linear(w, f"{layer}/self_attention/linear_1", mixed)


def feed_forward(w, layer, x):
    inner = gelu(linear(w, f"{layer}/ffn/linear_0", norm(w, f"{layer}/ffn/layer_norm", x)))
    return x + linear(w, f"{layer}/ffn/linear_1", inner)


def encode(w, mel):
    """mel[MELS, 2T] to [T, width]."""
    x = gelu(conv(w, "encoder/conv2", gelu(conv(w, "encoder/conv1", mel, 1)), 2)).T
    x = x + w["encoder/position_encodings/encodings"][: len(x)]
    for i in range(LAYERS):
        x = feed_forward(w, f"encoder/layer_{i}", self_attention(w, f"encoder/layer_{i}", x))
    return norm(w, "encoder/layer_norm", x)


def decode(w, heard, tokens):
    """Logits [S, VOCABULARY] of all the tokens at once."""
    table = w["decoder/embeddings/weight"]
    x = table[tokens] + w["decoder/position_encodings/encodings"][: len(tokens)]
    mask = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
    for i in range(LAYERS):
        layer = f"decoder/layer_{i}"
        x = self_attention(w, layer, x, mask)
        query = linear(w, f"{layer}/attention/linear_0", norm(w, f"{layer}/attention/layer_norm", x))
        keys, values = np.split(linear(w, f"{layer}/attention/linear_1", heard), 2, axis=1)
        x = x + linear(w, f"{layer}/attention/linear_2", attention(query, keys, values))
        x = feed_forward(w, layer, x)
    return norm(w, "decoder/layer_norm", x) @ table.T
