"""Linear layers in 4 bits: as good as 4 bits can be, and worked out when the model is loaded."""

import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "convert"))

import graph

OUT, IN = 48, 64


def weights(seed=3):
    """Rows of very different size, and within a row groups of different size."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.normal(size=(OUT, 1))) * np.repeat(np.exp(random.normal(size=(OUT, IN // graph.GROUP))), graph.GROUP, 1)
    return (random.normal(size=(OUT, IN)) * sizes).astype(np.float32)


class FourBits(unittest.TestCase):
    def test_numbers_and_multiples_stay_in_their_bits_and_their_product_in_seven(self):
        values, multiples, _ = graph.quantise_small(weights())
        self.assertLessEqual(np.abs(values).max(), 7)
        self.assertTrue(((multiples >= 1) & (multiples <= 9)).all())
        self.assertLessEqual(np.abs(values * np.repeat(multiples, graph.GROUP, 1).astype(np.int32)).max(), 64)

    def test_the_multiples_make_small_groups_finer_than_one_scale_a_row_would(self):
        weight = weights()
        values, multiples, scale = graph.quantise_small(weight)
        stands_for = values * np.repeat(multiples, graph.GROUP, 1) * scale[:, None]
        step = np.abs(weight).max(axis=1, keepdims=True) / 7
        plain = np.clip(np.rint(weight / step), -7, 7) * step
        self.assertLess(((stands_for - weight) ** 2).sum(), 0.7 * ((plain - weight) ** 2).sum())

    def test_a_row_of_zeros_stays_zero(self):
        weight = weights()
        weight[5] = 0
        values, _, _ = graph.quantise_small(weight)
        self.assertFalse(values[5].any())

    def test_the_graph_multiplies_by_what_the_numbers_stand_for(self):
        weight, x = weights(), np.random.default_rng(4).normal(size=(3, IN)).astype(np.float32)
        made, bias = graph.Graph("linear"), np.arange(OUT, dtype=np.float32)
        product = made.small_linear(made.input("x", graph.FLOAT, "rows", IN), graph.quantise_small(weight), bias)
        made.output(product, "y", "rows", OUT)
        with tempfile.TemporaryDirectory() as folder:
            made.save(Path(folder) / "linear.onnx")
            session = onnxruntime.InferenceSession(str(Path(folder) / "linear.onnx"))
            found = session.run(["y"], {"x": x})[0]
        values, multiples, scale = graph.quantise_small(weight)
        stands_for = values * np.repeat(multiples, graph.GROUP, 1) * scale[:, None]
        x_scale = np.abs(x).max(axis=1, keepdims=True) / 127
        expected = (np.rint(x / x_scale) * x_scale) @ stands_for.T + bias
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


if __name__ == "__main__":
    unittest.main()
