"""Which tensors of an ONNX graph are weights: by what reads them, through transposes and casts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from torch import nn

from ..models.onnx_layout import GATES, Place, numel

RECURRENT = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
# operator: {input: kind of layer, None for what belongs to one}
READS: dict[str, dict[int, str | None]] = {
    "Conv": {1: "conv", 2: None}, "FusedConv": {1: "conv", 2: None}, "ConvTranspose": {1: "conv_transpose", 2: None},
    "Gemm": {0: "linear", 1: "linear", 2: None}, "FusedGemm": {0: "linear", 1: "linear", 2: None},
    "MatMul": {0: "linear", 1: "linear"}, "FusedMatMul": {0: "linear", 1: "linear"}, "Attention": {1: "attention", 2: None},
    "Gather": {0: "embedding"}, "EmbedLayerNormalization": {2: "embedding", 3: "embedding", 4: "embedding", 5: None, 6: None},
    "BatchNormalization": {1: None, 2: None, 3: None, 4: None}, "InstanceNormalization": {1: None, 2: None},
    "LayerNormalization": {1: None, 2: None}, "SkipLayerNormalization": {2: None, 3: None, 4: None}, "GroupNormalization": {1: None, 2: None},
    "RMSNormalization": {1: None}, "SimplifiedLayerNormalization": {1: None}, "PRelu": {1: None},
    "Einsum": dict.fromkeys(range(8), "linear"),
    **{one: {0: "other", 1: "other"} for one in ("Add", "Sub", "Mul", "Div")},
}  # fmt: skip
BUFFERS = {"BatchNormalization": (3, 4)}
PASSES = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
DOMAINS = ("", "ai.onnx", "com.microsoft")
SPELT = re.compile(r"[A-Za-z_][\w\-]*(\.[\w\-]+)+")  # as a state dict spells names
MADE = re.compile(r"(onnx::.*|val_?\d+|_?\d+|const(ant)?_?\d*|.*/.*|_v_\d+|t_?\d+|.*_output_\d+|.*_transposed_?\d*)", re.I)


@dataclass
class Found:
    """What a tensor of the file is. parts: {suggested name: (place, kind)}; buffer: a norm's statistics."""

    tensor: str
    parts: dict[str, tuple[Place, str | None]] = field(default_factory=dict)
    buffer: bool = False


def find(graph: onnx.GraphProto, shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], constant: frozenset[str]) -> list[Found]:
    """The weights of a graph in the order of their use, each once. shapes: {floating tensor: (shape, dtype)}; constant: those
    that nodes hold, not initializers."""
    ways = {name: (name, tuple(range(len(shape)))) for name, (shape, _) in shapes.items()}  # value -> (tensor, axes or ())
    found: dict[str, Found] = {}
    for node in graph.node:
        if node.domain not in DOMAINS:
            continue
        if node.op_type in PASSES and node.input and node.input[0] in ways and node.output:
            ways[node.output[0]] = _passed(node, *ways[node.input[0]])
            continue
        reads = RECURRENT_READS if node.op_type in RECURRENT else READS.get(node.op_type, {})
        for index in reads:
            if index >= len(node.input) or node.input[index] not in ways:
                continue
            tensor, axes = ways[node.input[index]]
            if tensor in found or not numel(shapes[tensor][0]):
                continue
            one = _recurrent(node, index, tensor, axes, shapes) if node.op_type in RECURRENT else _plain(node, index, tensor, axes, shapes, constant)
            if one is not None:
                found[tensor] = one
    return list(found.values())


RECURRENT_READS: dict[int, str | None] = {1: "ih", 2: "hh", 3: None, 7: None}


def _passed(node: onnx.NodeProto, tensor: str, axes: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Where an axis of the value comes from; () where it cannot be told."""
    if node.op_type in ("Identity", "Cast"):
        return tensor, axes
    if node.op_type == "Transpose" and axes:
        given = _attribute(node, "perm")
        order = tuple(given) if given is not None else tuple(reversed(range(len(axes))))
        if sorted(order) == list(range(len(axes))):
            return tensor, tuple(axes[i] for i in order)
    return tensor, ()


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), None)


def _plain(
    node: onnx.NodeProto, index: int, tensor: str, axes: tuple[int, ...], shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], constant: frozenset[str]
) -> Found | None:  # fmt: skip
    shape, dtype = shapes[tensor]
    kind = READS[node.op_type][index]
    wide = sum(d > 1 for d in shape) > 1
    if kind == "other" or kind == "linear" and len(shape) < 2:
        if not shape or tensor in constant and numel(shape) < 2:
            return None
        kind = "other" if wide else None
    elif kind is not None and len(shape) < 2 or kind == "embedding" and len(shape) != 2:
        kind = "other" if wide else None
    if not shape:
        return None
    order = axes
    if kind in ("linear", "attention") and len(shape) == 2 and axes and _inputs_first(node, index):
        order = (axes[1], axes[0])
    same = not order or order == tuple(range(len(shape)))
    place = Place(tensor, shape, dtype, () if same else order)
    suffix = "in_proj_weight" if kind == "attention" else "weight" if kind or index == 1 else "bias"
    return Found(tensor, {_name(node, index, tensor, suffix): (place, kind)}, index in BUFFERS.get(node.op_type, ()))


def _inputs_first(node: onnx.NodeProto, index: int) -> bool:
    """Whether the product reads its weight as [inputs, outputs]; torch keeps [outputs, inputs]."""
    if node.op_type in ("Gemm", "FusedGemm", "FusedMatMul"):
        turned = bool(_attribute(node, ("transA", "transB")[index]))
        return turned == (index == 0)
    return index == 1 and node.op_type in ("MatMul", "Attention")


def _recurrent(
    node: onnx.NodeProto, index: int, tensor: str, axes: tuple[int, ...], shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
) -> Found | None:
    """Two matrices or biases a direction, with gates in torch's order; peepholes are left in the graph."""
    shape, dtype = shapes[tensor]
    gates = GATES[node.op_type]
    rows = shape[1] if len(shape) > 1 else 0
    if index == 7 or axes != tuple(range(len(shape))) or len(shape) != (2 if index == 3 else 3) or not shape[0] or rows % (len(gates) * (2 if index == 3 else 1)):
        return None
    base = _path(node)
    made = Found(tensor)
    for direction in range(shape[0]):
        tail = "_reverse" if direction or _attribute(node, "direction") == b"reverse" else ""
        for half in (0, 1) if index == 3 else (None,):
            what = {1: "weight_ih", 2: "weight_hh"}.get(index) or ("bias_hh" if half else "bias_ih")
            place = Place(tensor, shape, dtype, direction=direction, half=half, gates=gates)
            made.parts[f"{base}.{what}_l0{tail}"] = (place, RECURRENT[node.op_type] if index in (1, 2) else None)
    return made


def _name(node: onnx.NodeProto, index: int, tensor: str, suffix: str) -> str:
    """The tensor's own name where it is one; else its bias's, or the node's path."""
    if SPELT.fullmatch(tensor):
        return tensor
    for other in node.input:
        if other != tensor and SPELT.fullmatch(other) and other.endswith(".bias"):
            return f"{other.removesuffix('.bias')}.{suffix}"
    if not MADE.fullmatch(tensor):
        return tensor
    return f"{_path(node)}.{suffix}"


def _path(node: onnx.NodeProto) -> str:
    """/encoder/layers.0/fc/MatMul -> encoder.layers.0.fc"""
    parts = [part for part in node.name.split("/") if part]
    if len(parts) > 1 and parts[-1].startswith(node.op_type):
        parts = parts[:-1]
    return ".".join(parts).removeprefix("node_") or (node.output[0] if node.output else node.op_type)


def safe(names: list[str], taken: frozenset[str]) -> list[str]:
    """FQNs that can stand in a module tree, each once; none is the name of another of the graph's values (``taken``)."""
    used: set[str] = set()
    levels: set[str] = set()
    plain = nn.Module()
    made = []
    for name in names:
        atoms = [re.sub(r"[^\w\-]", "_", atom)[:80] for atom in name.split(".") if atom][:32] or ["weight"]
        atoms = [f"{atom}_" if hasattr(plain, atom) or atom in ("kinds", "graph") else atom for atom in atoms]
        base, number = ".".join(atoms), 1
        full = base
        while full in used or full in levels or _above(full) & used or full in taken and full != name:
            number += 1
            full = f"{base}_{number}"
        used.add(full)
        levels |= _above(full)
        made.append(full)
    return made


def _above(name: str) -> set[str]:
    atoms = name.split(".")
    return {".".join(atoms[:i]) for i in range(1, len(atoms))}
