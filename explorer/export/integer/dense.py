"""Linear layers on integers: inputs rounded to uint8 by the range of each batch, int8 weights, int32 sums.

y = (x_codes - x_zero) (w_codes - w_zero) * x_scale * w_scale + bias, as DynamicQuantizeLinear and MatMulInteger of the ONNX
standard, which ONNX Runtime joins into one kernel. It runs a Gemm between DequantizeLinear nodes in floats.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .weights import Weight


def replace(model: onnx.ModelProto, coded: dict[str, Weight], wanted: Collection[str]) -> set[str]:
    """Replace, in place, each Gemm and MatMul that multiplies by a ``wanted`` weight; returns the weights that went into one."""
    graph = model.graph
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    out: list[onnx.NodeProto] = []
    gone: set[str] = set()
    rounded: set[str] = set()
    for node in list(graph.node):
        name = node.input[1] if node.op_type in ("Gemm", "MatMul") else ""
        weight = _matrix(node, coded[name]) if name in wanted and name in coded and readers[name] == 1 else None
        if weight is None:
            out.append(node)
            continue
        gone.add(name)
        x, y = node.input[0], node.output[0]
        if x not in rounded:
            rounded.add(x)
            out.append(
                helper.make_node("DynamicQuantizeLinear", [x], [f"{x}_u8", f"{x}_scale", f"{x}_zero"], f"{x}_round")
            )
        bias = list(node.input[2:3])
        code, zero, scale = (f"{name}_{part}" for part in ("codes", "zero", "scale"))
        kind = np.int8 if weight.low < 0 else np.uint8
        once = (weight.scale == weight.scale[0, 0]).all() and (weight.zero == weight.zero[0, 0]).all()
        graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(value), label)
            for label, value in (
                (code, weight.code.astype(kind)),
                (zero, np.asarray(weight.zero[0, 0] if once else weight.zero[0]).astype(kind)),
                (scale, (weight.scale[0, :1] if once else weight.scale[0]).astype(np.float32)),
            )
        )
        out += [
            helper.make_node("MatMulInteger", [f"{x}_u8", code, f"{x}_zero", zero], [f"{y}_int32"], f"{y}_multiply"),
            helper.make_node("Cast", [f"{y}_int32"], [f"{y}_float"], f"{y}_cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{x}_scale", scale], [f"{y}_scales"], f"{y}_scales"),
            helper.make_node("Mul", [f"{y}_float", f"{y}_scales"], [f"{y}_product" if bias else y], f"{y}_rescale"),
        ]
        if bias:
            out.append(helper.make_node("Add", [f"{y}_product", *bias], [y], f"{y}_add"))
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in out]
    del graph.node[:]
    graph.node.extend(fresh)
    for one in [one for one in graph.initializer if one.name in gone]:
        graph.initializer.remove(one)
    return gone


def _matrix(node: onnx.NodeProto, weight: Weight) -> Weight | None:
    """The weight [inputs, outputs] with one scale and zero point a column; None where it is not like that."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
    if (
        not weight.whole
        or weight.code.ndim != 2
        or not plain
        or max(-128 - weight.low, weight.high - (127 if weight.low < 0 else 255)) > 0
    ):
        return None
    if given.get("transB", 0):
        weight = Weight(weight.code.T, weight.zero.T, weight.scale.T, weight.low, weight.high, True, weight.block)
    same = (weight.scale == weight.scale[:1]).all() and (weight.zero == weight.zero[:1]).all()
    return weight if same else None
