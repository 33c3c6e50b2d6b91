"""Directions of recurrent layers joined by one node: torch.onnx computes the shape [T, N, directions * H] by nine of them.

At batch 1 these cost a small model a tenth of its time, whatever is pruned.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

RECURRENT = ("LSTM", "GRU", "RNN")


def flatten_directions(model: onnx.ModelProto) -> onnx.ModelProto:
    """In place: the output Y [T, directions, N, H] of a recurrent operator, transposed, is reshaped by [0, 0, -1]."""
    graph = model.graph
    made = {output: node for node in graph.node for output in node.output}
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer if list(one.dims) in ([], [1])}
    found = [node for node in graph.node if node.op_type == "Reshape" and _joins(node, made, constants)]
    if found:
        name = next(
            n
            for n in (f"directions{i or ''}" for i in range(len(graph.initializer) + 1))
            if n not in constants and n not in made
        )
        graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), name))
        for node in found:
            node.input[1] = name
        _drop_unused(graph)
    return model


def _source(made: Mapping[str, onnx.NodeProto], name: str, kind: str) -> onnx.NodeProto | None:
    node = made.get(name)
    return node if node is not None and node.op_type == kind else None


def _joins(node: onnx.NodeProto, made: Mapping[str, onnx.NodeProto], constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a Reshape makes [a, b, c * d] of a recurrent output transposed to [a, b, c, d]."""
    moved = _source(made, node.input[0], "Transpose")
    if moved is None or not any(moved.input[0] in one.output[:1] and one.op_type in RECURRENT for one in made.values()):
        return False
    shape = _source(made, node.input[1], "Concat")
    if shape is None or len(shape.input) != 3:
        return False
    last = _source(made, shape.input[2], "Reshape")
    product = None if last is None else _source(made, last.input[0], "Mul")
    if product is None:
        return False
    sizes = [_source(made, name, "Slice") for name in (*shape.input[:2], *product.input)]
    return all(one is not None and _is_size(one, i, node.input[0], made, constants) for i, one in enumerate(sizes))


def _is_size(
    node: onnx.NodeProto, dim: int, of: str, made: Mapping[str, onnx.NodeProto], constants: Mapping[str, np.ndarray]
) -> bool:
    """Whether a Slice is entry ``dim`` of the shape of ``of``."""
    shape = _source(made, node.input[0], "Shape")
    start, end = (constants.get(name) for name in node.input[1:3])
    if shape is None or shape.input[0] != of or start is None or end is None or any(one.i for one in shape.attribute):
        return False  # the shape may be a part of it: start and end are other than 0
    return int(start.flat[0]) == dim and int(end.flat[0]) == dim + 1


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that nobody reads any more."""
    while True:
        used = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
        unused = [node for node in graph.node if not used.intersection(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    for one in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(one)
