"""An ONNX graph whose weights are inputs under their own names, in torch's layout; nodes put them into the file's."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import torch
from onnx import TensorProto, helper

from ..models.onnx_layout import Place
from .onnx_gate import nodes

TENSOR_TYPES = {
    torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE, torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
}  # fmt: skip


def lift(model: onnx.ModelProto, places: Mapping[str, Place]) -> None:
    """In place: the tensors that ``places`` names are no longer held but made of inputs."""
    graph = model.graph
    whole = {place.tensor for place in places.values()}
    for field in (graph.initializer, graph.input):  # old files name initializers among the inputs, too
        for one in [one for one in field if one.name in whole]:
            field.remove(one)
    for node in [node for node in graph.node if node.op_type == "Constant" and whole.intersection(node.output)]:
        graph.node.remove(node)
    _rename(
        graph,
        {
            place.tensor: f"{place.tensor}::file"
            for name, place in places.items()
            if name == place.tensor and not place.plain
        },
    )
    made: list[onnx.NodeProto] = []
    by_tensor: dict[str, list[tuple[str, Place]]] = {}
    for name, place in places.items():
        kind = TensorProto.DOUBLE if place.dtype == torch.float64 else TensorProto.FLOAT
        graph.input.append(helper.make_tensor_value_info(name, kind, place.shaped))
        by_tensor.setdefault(place.tensor, []).append((name, place))
    for tensor, parts in by_tensor.items():
        made += _nodes(f"{tensor}::file" if tensor in places and not places[tensor].plain else tensor, parts)
    everything = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(everything)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let nodes read other values: a parameter keeps the name of the tensor that is made of it."""
    for node in nodes(graph.node) if names else ():
        node.input[:] = [names.get(name, name) for name in node.input]


def _nodes(tensor: str, parts: list[tuple[str, Place]]) -> list[onnx.NodeProto]:
    """What makes the file's tensor of its parameters."""
    first = parts[0][1]
    narrow = first.dtype.itemsize < 4
    wide = f"{tensor}::wide" if narrow else tensor
    made = _joined(wide, parts) if first.direction is not None else _turned(wide, *parts[0])
    if narrow:
        made.append(helper.make_node("Cast", [wide], [tensor], f"{tensor}::cast", to=TENSOR_TYPES[first.dtype]))
    return made


def _turned(out: str, name: str, place: Place) -> list[onnx.NodeProto]:
    if name == out:
        return []
    if not place.permute:
        return [helper.make_node("Identity", [name], [out], f"{out}::is")]
    order = [place.permute.index(axis) for axis in range(len(place.permute))]
    return [helper.make_node("Transpose", [name], [out], f"{out}::transpose", perm=order)]


def _joined(out: str, parts: list[tuple[str, Place]]) -> list[onnx.NodeProto]:
    """Rows in the file's order, halves and directions one behind the other, in the file's shape."""
    made, pieces = [], []
    for i, (name, place) in enumerate(sorted(parts, key=lambda p: (p[1].direction or 0, p[1].half or 0))):
        rows, piece = f"{out}::rows{i}", f"{out}::part{i}"
        made.append(_constant(rows, place.rows()))
        made.append(helper.make_node("Gather", [name, rows], [piece], piece, axis=0))
        pieces.append(piece)
    shape, flat = f"{out}::shape", f"{out}::flat"
    made.append(helper.make_node("Concat", pieces, [flat], flat, axis=0))
    made.append(_constant(shape, parts[0][1].shape))
    made.append(helper.make_node("Reshape", [flat, shape], [out], f"{out}::reshape"))
    return made


def _constant(name: str, values: list[int] | tuple[int, ...]) -> onnx.NodeProto:
    tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values))
    return helper.make_node("Constant", [], [name], f"{name}::constant", value=tensor)
