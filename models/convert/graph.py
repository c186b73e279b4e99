"""Builds an ONNX graph node by node, with linear layers quantised to int8 as they are added."""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

OPSET = 20  # the first with Gelu; LayerNormalization came with 17
IR_VERSION = 10

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
INT8, UINT8 = TensorProto.INT8, TensorProto.UINT8


SMALL, MULTIPLES, GROUP = 7, 9, 32  # of 4-bit weights: -7..7, times 1..9 for each 32


def quantise(weight):
    """A matrix [rows, in] as int8 with one scale a row.

    Only 7 bits are used (-64..64): on processors without VNNI the sum of two products of an unsigned and a signed byte
    is held in 16 bits and would saturate with 8.
    """
    scale = np.abs(weight).max(axis=1) / 64
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def quantise_small(weight):
    """A matrix [rows, in] as 4-bit whole numbers [rows, in], multiples of 1..9 [rows, in / GROUP] and one scale a row.

    What each stands for is number * multiple * scale, the multiple chosen for the least square error. Number times multiple
    stays within 7 bits, so that they make the int8 matrix that `quantise` would, a little coarser.
    """
    rows, columns = weight.shape
    groups = weight.reshape(rows, columns // GROUP, GROUP)
    scale = np.abs(weight).max(axis=1) / (SMALL * MULTIPLES)
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    best, errors = None, np.full(groups.shape[:2], np.inf)
    multiples = np.ones(groups.shape[:2], np.uint8)
    for multiple in range(1, MULTIPLES + 1):
        step = multiple * scale[:, None, None]
        numbers = np.clip(np.rint(groups / step), -SMALL, SMALL)
        error = ((numbers * step - groups) ** 2).sum(axis=2)
        better = error < errors
        best = numbers if best is None else np.where(better[:, :, None], numbers, best)
        errors, multiples = np.where(better, error, errors), np.where(better, multiple, multiples).astype(np.uint8)
    return best.reshape(rows, columns).astype(np.int8), multiples, scale


class Graph:
    """Every method that adds nodes takes and gives the names of values."""

    def __init__(self, name, int8=True):
        self.name, self.int8 = name, int8
        self.nodes, self.initializers, self.inputs, self.outputs = [], [], [], []
        self.renamed = {}  # values given to the outside, and their names there
        self.known = {}  # constants and quantised inputs already in the graph

    def fresh(self, stem):
        return f"{stem}.{len(self.nodes)}.{len(self.initializers)}"

    def input(self, name, kind, *shape):
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value, name, *shape):
        """Gives a value to the outside as `name`, f32."""
        self.renamed[value] = name
        self.outputs.append(helper.make_tensor_value_info(name, FLOAT, shape))

    def node(self, op, *inputs, outputs=1, **attributes):
        names = [self.fresh(op) + (f".{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, values, stem="weight"):
        name = self.fresh(stem)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def ints(self, *values):
        """A one-dimensional i64 constant, stored once."""
        if values not in self.known:
            self.known[values] = self.weight(np.array(values, np.int64), "ints")
        return self.known[values]

    def scalar(self, value, kind=np.float32):
        key = (kind, value)
        if key not in self.known:
            self.known[key] = self.weight(np.array(value, kind), "scalar")
        return self.known[key]

    def reshape(self, x, *shape):
        return self.node("Reshape", x, self.ints(*shape))

    def transpose(self, x, *perm):
        return self.node("Transpose", x, perm=perm)

    def layer_norm(self, x, gamma, beta, epsilon=1e-5):
        return self.node("LayerNormalization", x, self.weight(gamma), self.weight(beta), axis=-1, epsilon=epsilon)

    def linear(self, x, weight, bias=None):
        """x[.., in] times weight[out, in] transposed, plus bias[out]."""
        if self.int8:
            values, scale = quantise(weight)
            product = self.integer_matmul(x, self.weight(values.T), self.weight(scale))
        else:
            product = self.node("MatMul", x, self.weight(weight.T))
        return product if bias is None else self.node("Add", product, self.weight(bias))

    def small_linear(self, x, small, bias):
        """x[.., in] times a `quantise_small` matrix transposed, plus bias[out]."""
        return self.node("Add", self.integer_matmul(x, *self.small_weight(*small)), self.weight(bias))

    def small_weight(self, values, multiples, scale):
        """A `quantise_small` matrix, two numbers a byte, as the int8[in, out] and the scale[out] that a product wants.

        Nothing here depends on an input, so that ONNX Runtime works it out once, when the model is loaded.
        """
        halves = (values.T + 8).astype(np.uint8)
        packed = self.weight(halves[0::2] | halves[1::2] << 4)
        low = self.node("BitwiseAnd", packed, self.scalar(15, np.uint8))
        high = self.node("BitShift", packed, self.scalar(4, np.uint8), direction="RIGHT")
        columns, rows = values.T.shape
        numbers = self.node("Concat", self.node("Unsqueeze", low, self.ints(1)), self.node("Unsqueeze", high, self.ints(1)), axis=1)
        numbers = self.reshape(numbers, columns // GROUP, GROUP, rows)
        numbers = self.node("Sub", self.node("Cast", numbers, to=INT32), self.scalar(8, np.int32))
        larger = self.node("Cast", self.node("Unsqueeze", self.weight(multiples.T), self.ints(1)), to=INT32)
        whole = self.node("Cast", self.node("Mul", numbers, larger), to=INT8)
        return self.reshape(whole, columns, rows), self.weight(scale)

    def integer_matmul(self, x, values, scale):
        """x[.., in], each row quantised on the fly on its own, times int8 values[in, out] with scale[out].

        No row changes with what else is in the batch, and a loud one costs the others nothing: an eighth more time in
        the encoder than one scale for all.
        """
        if ("quantised", x) not in self.known:
            largest = self.node("ReduceMax", self.node("Abs", x), self.ints(-1), keepdims=1)
            x_scale = self.node("Mul", self.node("Max", largest, self.scalar(1e-9)), self.scalar(1 / 127))
            shifted = self.node("Add", self.node("Round", self.node("Div", x, x_scale)), self.scalar(128.0))
            self.known["quantised", x] = self.node("Cast", shifted, to=UINT8), x_scale
        quantised, x_scale = self.known["quantised", x]
        product = self.node("MatMulInteger", quantised, values, self.scalar(128, np.uint8), self.scalar(0, np.int8))
        return self.node("Mul", self.node("Mul", self.node("Cast", product, to=FLOAT), scale), x_scale)

    def shared_table(self, table):
        """A table[rows, size] as (lookup, projection): ids[..] to rows, and x[.., size] times the table transposed.

        The table is stored once, the way the product wants it; the lookup gathers columns, which costs nothing for
        the few ids of a step.
        """
        if not self.int8:
            columns = self.weight(table.T)
            return (
                lambda ids: self.columns(columns, ids),
                lambda x: self.node("MatMul", x, columns),
            )
        values, scale = quantise(table)
        columns, scales = self.weight(values.T, "table"), self.weight(scale)

        def lookup(ids):
            rows = self.node("Cast", self.columns(columns, ids), to=FLOAT)
            row_scales = self.node("Unsqueeze", self.node("Gather", scales, ids), self.ints(-1))
            return self.node("Mul", rows, row_scales)

        return lookup, lambda x: self.integer_matmul(x, columns, scales)

    def columns(self, table, ids):
        """ids[1, n] to [1, n, size] from a table[size, rows]."""
        return self.transpose(self.node("Gather", table, ids, axis=1), 1, 2, 0)

    def save(self, path):
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [self.renamed.get(name, name) for name in names]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="sales-coach")
        checker.check_model(model)
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
