"""LSTM -> DynamicQuantizeLSTM of ONNX Runtime: integer weights, inputs and states rounded at run time.

W [directions, input, 4 hidden] and R [directions, hidden, 4 hidden] are int8 with a scale a column; activations are
rounded to uint8 by the range of each step's batch. The states' calibrated ranges are not used: the operator has none.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .weights import Weight

DOMAIN = "com.microsoft"


def usable(weight: Weight | None) -> bool:
    """Whether the operator can hold it: int8 codes without zero points, one scale a row."""
    if weight is None or not weight.whole or weight.zero.any() or weight.low < -128 or weight.high > 127:
        return False
    return bool((weight.scale == weight.scale[..., :1]).all())


def replace(model: onnx.ModelProto, coded: dict[str, Weight]) -> set[str]:
    """Replace, in place, every LSTM both of whose matrices are usable; returns the weights that went into one."""
    graph, gone = model.graph, set()
    for node in graph.node:
        if node.op_type != "LSTM" or any(a.name == "activations" for a in node.attribute):
            continue
        if not all(usable(coded.get(name)) for name in node.input[1:3]):
            continue
        parts = []
        for name in node.input[1:3]:
            weight = coded[name]
            gone.add(name)
            codes = np.ascontiguousarray(weight.code.transpose(0, 2, 1)).astype(np.int8)
            scale = np.ascontiguousarray(weight.scale[..., 0]).astype(np.float32)  # [directions, 4 hidden]
            zero = np.zeros(scale.shape, np.int8)
            if (scale == scale[:, :1]).all():
                scale, zero = scale[:, 0].copy(), zero[:, 0].copy()  # one a direction
            parts.append((codes, scale, zero))
        (w, ws, wz), (r, rs, rz) = parts
        rest = [*node.input[3:], *[""] * (8 - len(node.input))]
        named: dict[str, np.ndarray] = {"w": w, "r": r, "ws": ws, "wz": wz, "rs": rs, "rz": rz}
        names = {key: f"{node.output[0]}_{key}" for key in named}
        graph.initializer.extend(numpy_helper.from_array(value, names[key]) for key, value in named.items())
        inputs = [node.input[0], names["w"], names["r"], *rest, names["ws"], names["wz"], names["rs"], names["rz"]]
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "layout"}
        made = helper.make_node("DynamicQuantizeLSTM", inputs, list(node.output), node.name, domain=DOMAIN, **kept)
        node.CopyFrom(made)
    if gone:
        for one in [one for one in graph.initializer if one.name in gone]:
            graph.initializer.remove(one)
        if all(opset.domain != DOMAIN for opset in model.opset_import):
            model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return gone
