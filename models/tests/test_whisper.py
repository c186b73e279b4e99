"""The Whisper converter, on a tiny model with random weights: format, graphs, errors.

    python -m unittest discover -s models/tests -t models     (in the environment of tests/python/models.txt)
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnxruntime

CONVERT = Path(__file__).resolve().parents[1] / "convert"
sys.path[:0] = [str(CONVERT), str(Path(__file__).parent)]

import ctranslate2
import whisper

import synthetic


class Reading(unittest.TestCase):
    def test_variables_come_back_as_written_and_aliases_stand_for_their_target(self):
        found = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "decoder/embeddings/weight": np.ones((2, 2), np.float32)}
        read = ctranslate2.parse(synthetic.packed(found), "WhisperSpec")
        np.testing.assert_array_equal(read["a"], found["a"])
        self.assertIs(read["decoder/projection/weight"], read["decoder/embeddings/weight"])

    def test_integers_are_divided_by_the_scale_of_their_row(self):
        found = {"w": np.array([[10, -20], [4, 8]], np.int8), "w_scale": np.array([10, 4], np.float32)}
        np.testing.assert_allclose(ctranslate2.floats(found, "w"), [[1, -2], [1, 2]])

    def test_a_file_cut_anywhere_is_refused(self):
        data = synthetic.packed({"decoder/embeddings/weight": np.ones((2, 2), np.float32)})
        for length in range(len(data)):
            with self.assertRaisesRegex(ctranslate2.FormatError, "cut short"):
                ctranslate2.parse(data[:length], "WhisperSpec")

    def test_another_version_or_model_is_refused_by_name(self):
        with self.assertRaisesRegex(ctranslate2.FormatError, "version 6"):
            ctranslate2.parse(b"RIFF" + bytes(40), "WhisperSpec")
        with self.assertRaisesRegex(ctranslate2.FormatError, "TransformerSpec, not a WhisperSpec"):
            ctranslate2.parse(synthetic.packed({}, spec="TransformerSpec"), "WhisperSpec")


class Converting(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        root = Path(cls.folder.name)
        found = synthetic.variables()
        synthetic.write(root / "model", found)
        cls.root, cls.weights = root, synthetic.weights(found)
        whisper.convert(root / "model", root / "float", int8=False)
        whisper.convert(root / "model", root / "int8")
        random = np.random.default_rng(2)
        cls.mel = random.standard_normal((synthetic.MELS, 24)).astype(np.float32)
        cls.heard = synthetic.encode(cls.weights, cls.mel)
        cls.tokens = [50258, 7, 300, 51000, 9]
        cls.expected = synthetic.decode(cls.weights, cls.heard, cls.tokens)

    def run_graph(self, path, inputs):
        session = onnxruntime.InferenceSession(self.root / path)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, inputs)))

    def cross(self, kind):
        return self.run_graph(f"{kind}/encoder.onnx", {"mel": self.mel[None]})

    def steps(self, kind, chunks):
        """Logits of tokens fed in chunks, each with the past of the ones before."""
        fed, logits = self.cross(kind), []
        fed.update({f"past_{part}_{i}": np.zeros((1, 2, 0, 64), np.float32) for part in "kv" for i in range(synthetic.LAYERS)})
        for chunk in chunks:
            found = self.run_graph(f"{kind}/decoder.onnx", {"tokens": np.array([chunk]), **fed})
            logits.append(found.pop("logits")[0])
            fed.update({name.replace("present", "past"): value for name, value in found.items()})
        return np.concatenate(logits)

    def test_the_encoder_gives_each_layers_keys_transposed_and_values(self):
        found = self.cross("float")
        for i in range(synthetic.LAYERS):
            both = synthetic.linear(self.weights, f"decoder/layer_{i}/attention/linear_1", self.heard)
            keys, values = (part.reshape(12, 2, 64) for part in np.split(both, 2, axis=1))
            np.testing.assert_allclose(found[f"cross_k_{i}"][0], keys.transpose(1, 2, 0), atol=2e-3)
            np.testing.assert_allclose(found[f"cross_v_{i}"][0], values.transpose(1, 0, 2), atol=2e-3)

    def test_logits_are_those_of_the_plain_forward_pass(self):
        np.testing.assert_allclose(self.steps("float", [self.tokens]), self.expected, atol=2e-2)

    def test_step_by_step_gives_what_all_at_once_gives(self):
        stepped = self.steps("float", [self.tokens[:2], *([token] for token in self.tokens[2:])])
        np.testing.assert_allclose(stepped, self.expected, atol=2e-2)

    def test_int8_stays_near_float(self):
        found, expected = self.steps("int8", [self.tokens]), self.expected
        alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, expected)]
        self.assertGreater(min(alike), 0.97)

    def test_int8_weights_use_seven_bits(self):
        import onnx

        for name in ("encoder", "decoder"):
            graph = onnx.load(self.root / f"int8/{name}.onnx").graph
            matrices = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims]
            self.assertTrue(matrices)
            self.assertLessEqual(max(np.abs(m.astype(int)).max() for m in matrices), 64)

    def test_whisper_json_tells_sizes_and_special_tokens(self):
        facts = json.loads((self.root / "int8/whisper.json").read_text())
        self.assertEqual((facts["layers"], facts["heads"], facts["n_mels"]), (2, 2, synthetic.MELS))
        self.assertEqual((facts["n_audio_ctx"], facts["n_text_ctx"], facts["vocab"]), (20, 16, 51865))
        self.assertEqual((facts["sot"], facts["eot"], facts["no_timestamps"]), (50258, 50257, 50266))
        self.assertEqual(facts["languages"], {"en": 50259, "zh": 50260, "es": 50261})

    def command(self, folder):
        call = [sys.executable, CONVERT / "whisper.py", folder, self.root / "out"]
        return subprocess.run(call, capture_output=True, text=True)

    def test_a_folder_without_a_model_ends_in_one_clear_line(self):
        result = self.command(self.root / "nowhere")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("cannot convert", result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_a_model_without_a_layers_part_names_what_is_missing(self):
        found = synthetic.variables()
        del found["decoder/layer_1/attention/linear_1/bias"]
        synthetic.write(self.root / "lacking", found)
        result = self.command(self.root / "lacking")
        self.assertIn("lacks decoder/layer_1/attention/linear_1/bias", result.stderr)


if __name__ == "__main__":
    unittest.main()
