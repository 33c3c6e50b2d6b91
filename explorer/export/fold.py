"""ONNX graph -> the same graph with all work on weights done, remembering which weights went into what.

An export keeps ``Transpose(weight)``, ``Concat(Slice(weight), ...)`` and the like as nodes. Folded away they leave a
graph with a node for each layer; the names of a folded tensor's sources tell which layer a node belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from .onnx_tensors import FLOATS

MOVES = frozenset(
    "Identity Transpose Slice Concat Unsqueeze Squeeze Reshape Cast CastLike Split Gather Constant ConstantOfShape "
    "Expand Shape Mul Add Sub Div Range Neg Where Equal Flatten Pad Tile".split()
)
FORGETS = frozenset({"Shape", "Size", "ConstantOfShape"})  # their result holds no entry of their input


def fold(model: onnx.ModelProto) -> dict[str, frozenset[str]]:
    """Fold, in place, every node whose inputs are all known; then drop what nothing reads.

    Returns {value name: names of the original initializers that its entries come from}. What a runtime would do
    first anyway; outputs do not change.
    """
    graph = model.graph
    known: dict[str, np.ndarray] = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    sources = {one.name: frozenset([one.name]) for one in graph.initializer if one.data_type in FLOATS}  # no sizes and indices
    opset = next((one.version for one in model.opset_import if one.domain == ""), 20)
    types = {one.name: one.type.tensor_type for one in [*graph.input, *graph.value_info, *graph.output]}
    made: dict[str, np.ndarray] = {}
    kept = []
    for node in graph.node:
        names = [name for name in node.input if name]
        size = _static(node, types)
        if size is not None:
            known[node.output[0]] = made[node.output[0]] = size
        elif node.op_type in MOVES and node.domain in ("", "ai.onnx") and all(name in known for name in names):
            try:
                values = _run(node, {name: known[name] for name in names}, opset)
            except Exception:  # an odd dtype or attribute: the node simply stays
                kept.append(node)
                continue
            from_weights = frozenset().union(*(sources.get(name, frozenset()) for name in names))
            for name, value in zip(node.output, values, strict=True):
                known[name] = made[name] = value
                sources[name] = frozenset() if node.op_type in FORGETS else from_weights
        else:
            kept.append(node)
    read = {out.name for out in graph.output}
    alive = []
    for node in reversed(kept):  # a graph is sorted, so one pass backwards finds what is read
        if read.intersection(node.output):
            alive.append(node)
            read.update(node.input)
            read.update(inner(node))
    del graph.node[:]
    graph.node.extend(reversed(alive))
    stays = [one for one in graph.initializer if one.name in read]
    fresh = [numpy_helper.from_array(np.array(v, order="C"), name) for name, v in made.items() if name in read]
    del graph.initializer[:]
    graph.initializer.extend([*stays, *fresh])
    held = {one.name for one in graph.initializer}
    return {name: found for name, found in sources.items() if name in held}


def _static(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto.Tensor]) -> np.ndarray | None:
    """The result of a Shape whose sizes are all stated; hidden sizes are, the batch is not."""
    if node.op_type != "Shape" or node.input[0] not in types or not types[node.input[0]].HasField("shape"):
        return None
    given = {attribute.name: attribute.i for attribute in node.attribute}
    dims = list(types[node.input[0]].shape.dim)[given.get("start", 0) : given.get("end")]
    return np.array([d.dim_value for d in dims], np.int64) if all(d.HasField("dim_value") for d in dims) else None


def _run(node: onnx.NodeProto, values: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in values.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = onnx.helper.make_graph([node], "fold", inputs, outputs)
    evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)]))
    return [np.asarray(one) for one in evaluator.run(None, values)]


def inner(node: onnx.NodeProto) -> set[str]:
    """Names that the graphs inside of a node (If, Loop) read from outside."""
    found: set[str] = set()
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for child in attribute.g.node:
                found |= set(child.input) | inner(child)
            found |= {one.name for one in attribute.g.output}
    return found


def consumers(model: onnx.ModelProto, sources: dict[str, frozenset[str]]) -> dict[str, list[onnx.NodeProto]]:
    """{original initializer: nodes that compute with it}, in graph order."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for weight in sorted(frozenset().union(*(sources.get(name, frozenset()) for name in node.input))):
            readers[weight].append(node)
    return readers
