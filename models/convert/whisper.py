"""Turns a Whisper model in CTranslate2's format (a folder with model.bin, config.json, tokenizer.json) into the
graphs that transcription runs: encoder.onnx, decoder.onnx, and tokenizer.json and whisper.json beside them.

    python models/convert/whisper.py FOLDER OUT

Any size will do, English-only ones and those with 128 mel bands (large-v3) too; the sizes are read from the weights.

encoder.onnx: mel f32[1,n_mels,2T] -> for each decoder layer i cross_k_i f32[1,H,64,T], cross_v_i f32[1,H,T,64]
decoder.onnx: tokens i64[1,S], past_k_i and past_v_i f32[1,H,P,64] (P may be 0), cross_k_i, cross_v_i
              -> logits f32[1,S,V], present_k_i and present_v_i f32[1,H,P+S,64]; the positions begin at P
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

from ctranslate2 import FormatError, floats, read
from graph import FLOAT, INT64, Graph

HEAD = 64  # every Whisper has heads of this size
LARGEST_GRAPH = 2**31  # protobuf's limit on a file


class Weights:
    """The model's variables below one name, with their sizes."""

    def __init__(self, variables, under=""):
        self.variables, self.prefix = variables, under

    def __getitem__(self, name):
        return floats(self.variables, self.prefix + name)

    def under(self, name):
        return Weights(self.variables, f"{self.prefix}{name}/")

    def linear(self, name):
        return self[f"{name}/weight"], self[f"{name}/bias"]

    def norm(self, name):
        return self[f"{name}/gamma"], self[f"{name}/beta"]

    def layers(self):
        pattern = re.compile(re.escape(self.prefix) + r"layer_(\d+)/")
        found = {int(match[1]) for match in map(pattern.match, self.variables) if match}
        if not found:
            raise FormatError(f"the model has no layers below {self.prefix}")
        return [self.under(f"layer_{i}") for i in range(max(found) + 1)]


def split_heads(graph, x, heads):
    """[1,n,heads*64] to [1,heads,n,64]."""
    return graph.transpose(graph.reshape(x, 1, -1, heads, HEAD), 0, 2, 1, 3)


def attend(graph, query, keys, values, mask=None):
    """query[1,H,S,64], keys[1,H,64,N] and values[1,H,N,64] to [1,S,H*64]; the query is already scaled."""
    scores = graph.node("MatMul", query, keys)
    if mask:
        scores = graph.node("Add", scores, mask)
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), values)
    return graph.reshape(graph.transpose(mixed, 0, 2, 1, 3), 1, -1, graph.width)


def scaled_query(weight, bias, rows):
    """Folds the division of attention scores by the root of the head's size into the query's rows of a layer."""
    weight[:rows] *= HEAD**-0.5
    bias[:rows] *= HEAD**-0.5
    return weight, bias


def self_attention(graph, x, layer, past=None, mask=None):
    """x[1,S,D] after one layer of attention to itself (and to the past), and the keys and values to keep."""
    attention, heads = layer.under("self_attention"), graph.width // HEAD
    inner = graph.layer_norm(x, *attention.norm("layer_norm"))
    fused = graph.linear(inner, *scaled_query(*attention.linear("linear_0"), graph.width))
    parts = graph.node("Split", fused, outputs=3, axis=-1, num_outputs=3)
    query, keys, values = (split_heads(graph, part, heads) for part in parts)
    if past:
        keys = graph.node("Concat", past[0], keys, axis=2)
        values = graph.node("Concat", past[1], values, axis=2)
    mixed = attend(graph, query, graph.transpose(keys, 0, 1, 3, 2), values, mask)
    return graph.node("Add", x, graph.linear(mixed, *attention.linear("linear_1"))), keys, values


def cross_attention(graph, x, layer, keys, values):
    attention = layer.under("attention")
    inner = graph.layer_norm(x, *attention.norm("layer_norm"))
    query = graph.linear(inner, *scaled_query(*attention.linear("linear_0"), graph.width))
    mixed = attend(graph, split_heads(graph, query, graph.width // HEAD), keys, values)
    return graph.node("Add", x, graph.linear(mixed, *attention.linear("linear_2")))


def feed_forward(graph, x, layer):
    ffn = layer.under("ffn")
    inner = graph.linear(graph.layer_norm(x, *ffn.norm("layer_norm")), *ffn.linear("linear_0"))
    return graph.node("Add", x, graph.linear(graph.node("Gelu", inner), *ffn.linear("linear_1")))


def encoder(model, int8=True):
    weights = model.under("encoder")
    first, _ = weights.linear("conv1")
    graph = Graph("whisper-encoder", int8)
    graph.width = first.shape[0]
    x = graph.input("mel", FLOAT, 1, first.shape[1], "frames")
    for conv, stride in (("conv1", 1), ("conv2", 2)):
        kernel, bias = map(graph.weight, weights.linear(conv))
        x = graph.node("Gelu", graph.node("Conv", x, kernel, bias, pads=[1, 1], strides=[stride]))
    x = graph.transpose(x, 0, 2, 1)
    length = graph.node("Shape", x, start=1, end=2)
    positions = graph.weight(weights["position_encodings/encodings"])
    x = graph.node("Add", x, graph.node("Slice", positions, graph.ints(0), length, graph.ints(0)))
    for layer in weights.layers():
        x, _, _ = self_attention(graph, x, layer)
        x = feed_forward(graph, x, layer)
    x = graph.layer_norm(x, *weights.norm("layer_norm"))
    cross(graph, x, model.under("decoder").layers())
    return graph


def cross(graph, x, layers):
    """What the encoder heard, as the keys and values that each of the decoder's layers attends to."""
    heads = graph.width // HEAD
    for i, layer in enumerate(layers):
        fused = graph.linear(x, *layer.linear("attention/linear_1"))
        keys, values = graph.node("Split", fused, outputs=2, axis=-1, num_outputs=2)
        keys = graph.transpose(graph.reshape(keys, 1, -1, heads, HEAD), 0, 2, 3, 1)
        graph.output(keys, f"cross_k_{i}", 1, heads, HEAD, "audio")
        graph.output(split_heads(graph, values, heads), f"cross_v_{i}", 1, heads, "audio", HEAD)


def decoder(model, int8=True):
    weights = model.under("decoder")
    graph, table = Graph("whisper-decoder", int8), weights["embeddings/weight"]
    graph.width = table.shape[1]
    heads, layers = graph.width // HEAD, weights.layers()
    tokens = graph.input("tokens", INT64, 1, "steps")
    past = [
        [graph.input(f"past_{kind}_{i}", FLOAT, 1, heads, "past", HEAD) for kind in "kv"]
        for i in range(len(layers))
    ]
    heard = [
        (
            graph.input(f"cross_k_{i}", FLOAT, 1, heads, HEAD, "audio"),
            graph.input(f"cross_v_{i}", FLOAT, 1, heads, "audio", HEAD),
        )
        for i in range(len(layers))
    ]
    lookup, project = graph.shared_table(table)
    steps, mask = causal_steps(graph, tokens, past[0][0])
    positions = graph.weight(weights["position_encodings/encodings"])
    x = graph.node("Add", lookup(tokens), graph.node("Gather", positions, steps))
    for i, layer in enumerate(layers):
        x, keys, values = self_attention(graph, x, layer, past[i], mask)
        x = cross_attention(graph, x, layer, *heard[i])
        x = feed_forward(graph, x, layer)
        graph.output(keys, f"present_k_{i}", 1, heads, "all", HEAD)
        graph.output(values, f"present_v_{i}", 1, heads, "all", HEAD)
    x = graph.layer_norm(x, *weights.norm("layer_norm"))
    graph.output(project(x), "logits", 1, "steps", table.shape[0])
    return graph


def causal_steps(graph, tokens, past):
    """The position of each token, i64[S], and what keeps it from looking ahead, f32[S,P+S]."""
    zero, one = graph.scalar(0, np.int64), graph.scalar(1, np.int64)
    begin = graph.node("Squeeze", graph.node("Shape", past, start=2, end=3))
    count = graph.node("Squeeze", graph.node("Shape", tokens, start=1, end=2))
    end = graph.node("Add", begin, count)
    steps = graph.node("Range", begin, end, one)
    later = graph.node("Greater", graph.node("Range", zero, end, one), graph.node("Unsqueeze", steps, graph.ints(-1)))
    return steps, graph.node("Where", later, graph.scalar(-np.inf), graph.scalar(0.0))


def describe(model, config, tokenizer):
    """whisper.json: the sizes, and the token ids that have a meaning of their own."""
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    weights = model.under("decoder")
    vocabulary, width = weights["embeddings/weight"].shape

    def special(*names):
        for name in names:
            if f"<|{name}|>" in ids:
                return ids[f"<|{name}|>"]
        raise FormatError(f"tokenizer.json lacks <|{names[0]}|>")

    # English-only models list the languages too, but were not trained on them.
    multilingual = vocabulary >= 51865
    names = {name[2:-2]: number for name, number in ids.items() if re.fullmatch(r"<\|[a-z]{2,3}\|>", name)}
    listed = set(config.get("lang_ids", names.values()))
    end = special("endoftext")
    return {
        "layers": len(weights.layers()),
        "heads": width // HEAD,
        "head_dim": HEAD,
        "n_mels": model["encoder/conv1/weight"].shape[1],
        "n_audio_ctx": model["encoder/position_encodings/encodings"].shape[0],
        "n_text_ctx": weights["position_encodings/encodings"].shape[0],
        "vocab": vocabulary,
        "sot": special("startoftranscript"),
        "eot": end,
        "transcribe": special("transcribe"),
        "no_timestamps": special("notimestamps"),
        "no_speech": special("nospeech", "nocaptions"),
        "start_of_prev": special("startofprev"),
        "languages": {name: number for name, number in names.items() if multilingual and number in listed},
        "suppress_ids": config.get("suppress_ids", []),
        "suppress_ids_begin": config.get("suppress_ids_begin", [end]),
    }


def load_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON: {error}") from None


def convert(folder, out, int8=True):
    folder, out = Path(folder), Path(out)
    model = Weights(read(folder / "model.bin"))
    facts = describe(model, load_json(folder / "config.json"), load_json(folder / "tokenizer.json"))
    out.mkdir(parents=True, exist_ok=True)
    for part, name in ((encoder, "encoder.onnx"), (decoder, "decoder.onnx")):
        graph = part(model, int8)
        if sum(len(tensor.raw_data) for tensor in graph.initializers) >= LARGEST_GRAPH:
            raise FormatError(f"{name} would be larger than 2 GiB, which the format does not hold; leave out --float")
        graph.save(out / name)
    shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
    (out / "whisper.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="holds model.bin, config.json and tokenizer.json")
    parser.add_argument("out", help="folder to write to; made if missing")
    parser.add_argument("--float", action="store_true", help="keep f32 weights, to compare with")
    options = parser.parse_args()
    try:
        convert(options.folder, options.out, not options.float)
    except (FormatError, OSError) as error:
        sys.exit(f"cannot convert {options.folder}: {error}")


if __name__ == "__main__":
    main()
