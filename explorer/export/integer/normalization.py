"""BatchNorm after a convolution, merged into the scales of its integers.

y = g (conv(x) - mean) / sqrt(var + eps) + beta: the codes stay, each output channel's scale is multiplied by
g / sqrt(var + eps). Source: Jacob et al. 2018, arXiv 1712.05877, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

Merge = Callable[[str, np.ndarray], None]


def merge(model: onnx.ModelProto, merged: Merge) -> None:
    """Remove, in place, every BatchNormalization that alone reads a Conv whose bias is known.

    merged(weight name, factor): told to multiply that weight, factor shaped to broadcast.
    """
    graph = model.graph
    known = {one.name: one for one in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {one.name for one in graph.output}
    makers = {name: node for node in graph.node for name in node.output}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or conv.op_type not in ("Conv", "ConvTranspose") or conv.input[1] not in known:
            continue
        private = len(readers[norm.input[0]]) == 1 and len(readers[conv.input[1]]) == 1 and norm.input[0] not in outputs
        bias = numpy_helper.to_array(known[conv.input[2]]) if len(conv.input) > 2 and conv.input[2] in known else None
        if not private or (len(conv.input) > 2 and bias is None) or any(name not in known for name in norm.input[1:]):
            continue
        gamma, beta, mean, var = (numpy_helper.to_array(known[name]).astype(np.float64) for name in norm.input[1:])
        eps = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(var + eps)
        weight = known[conv.input[1]]
        shape = [1] * len(weight.dims)
        shape[0 if conv.op_type == "Conv" else 1] = -1
        if conv.op_type == "ConvTranspose" and weight.dims[1] != len(factor):
            continue  # grouped: the channels do not lie along one axis
        merged(weight.name, factor.reshape(shape))
        fresh = ((0 if bias is None else bias) - mean) * factor + beta
        name = f"{norm.output[0]}_bias"
        graph.initializer.append(numpy_helper.from_array(fresh.astype(np.float32), name))
        del conv.input[2:]
        conv.input.append(name)
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)
