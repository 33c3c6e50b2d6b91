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

SUMS = ("Add", "Sub", "Mul", "Div")
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
    **{one: {0: "other", 1: "other"} for one in SUMS},
}  # fmt: skip
BUFFERS = {"BatchNormalization": (3, 4)}
PASSES = frozenset(
    {"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat"}
)
Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
DOMAINS = ("", "ai.onnx", "com.microsoft")
RECURRENT_READS = (1, 2, 3)
LAYER = re.compile(r"(?P<stem>.*\.)weight_[ih]h_l(?P<layer>\d+)(_reverse)?")
SPELT = re.compile(r"[A-Za-z_][\w\-]*(\.[\w\-]+)+")  # as a state dict spells names
MADE = re.compile(
    r"(onnx::.*|val_?\d+|_?\d+|const(ant)?_?\d*|.*/.*|_v_\d+|t_?\d+|.*_output_\d+|.*_transposed_?\d*)", re.I
)


@dataclass
class Found:
    """What a tensor of the file is. parts: {suggested name: (place, kind)}; buffer: a norm's statistics."""

    tensor: str
    parts: dict[str, tuple[Place, str | None]] = field(default_factory=dict)
    buffer: bool = False


@dataclass(frozen=True)
class Way:
    """Where a value comes from. axes: the tensor's axis of each of the value's, () where it cannot be told; whole: all of it."""

    tensor: str
    axes: tuple[int, ...]
    whole: bool = True


class Finder:
    """Walks through a graph once. shapes: {floating tensor: (shape, dtype)}. constant: those that nodes hold, not initializers."""

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes, constant: frozenset[str]) -> None:
        self.graph, self.shapes, self.constant = graph, shapes, constant
        self.ways: dict[str, tuple[Way, ...]] = {
            name: (Way(name, tuple(range(len(shape)))),) for name, (shape, _) in shapes.items()
        }
        self.found: dict[str, Found] = {}
        self.biases = {  # a product without a bias: that of the sum behind it
            out: other for node in graph.node if node.op_type == "Add" and len(node.input) == 2
            for out, other in (tuple(node.input), tuple(reversed(node.input))) if other in shapes and SPELT.fullmatch(other)
        }  # fmt: skip
        self.bases: dict[str, int] = {}

    def find(self) -> list[Found]:
        """The weights in the order of their use, each once."""
        for node in self.graph.node:
            if node.domain not in DOMAINS:
                continue
            if node.op_type in PASSES and self._passed(node):
                continue
            recurrent = node.op_type in RECURRENT
            base = self._base(node) if recurrent else ""
            for index in RECURRENT_READS if recurrent else READS.get(node.op_type, {}):
                for way in self.ways.get(node.input[index], ()) if index < len(node.input) else ():
                    if way.tensor not in self.found and numel(self.shapes[way.tensor][0]):
                        one = self._recurrent(node, index, way, base) if recurrent else self._plain(node, index, way)
                        if one is not None:
                            self.found[way.tensor] = one
        return list(self.found.values())

    def _passed(self, node: onnx.NodeProto) -> bool:
        """Follow weights through a step that computes nothing."""
        given = [
            way
            for name in (node.input if node.op_type == "Concat" else node.input[:1])
            for way in self.ways.get(name, ())
        ]
        if not given:
            return True
        cut = node.op_type in ("Slice", "Concat", "Split")
        for out in node.output:
            self.ways[out] = tuple(Way(way.tensor, _axes(node, way.axes), way.whole and not cut) for way in given)
        return True

    def _base(self, node: onnx.NodeProto) -> str:
        """(what an LSTM's tensors are called, with their layer): rnn.{}_l0"""
        for name in node.input[1:4]:
            for way in self.ways.get(name, ()):
                known = LAYER.fullmatch(way.tensor)
                if known:
                    return f"{known['stem']}{{}}_l{known['layer']}"
        base = re.sub(rf"[._]?{node.op_type}(_\d+)?$", "", _path(node)) or node.op_type.lower()
        number = self.bases[base] = self.bases.get(base, -1) + 1
        return f"{base}.{{}}_l{number}"

    def _plain(self, node: onnx.NodeProto, index: int, way: Way) -> Found | None:
        shape, dtype = self.shapes[way.tensor]
        kind = READS[node.op_type][index]
        if not shape or kind == "other" and way.tensor in self.constant and numel(shape) < 2:
            return None
        if len(shape) < 2 or kind == "other" or kind == "embedding" and len(shape) != 2:
            kind = "other" if kind and sum(d > 1 for d in shape) > 1 else None
        axes = way.axes
        if kind in ("linear", "attention") and len(axes) == 2 and _inputs_first(node, index):
            axes = (axes[1], axes[0])
        place = Place(way.tensor, shape, dtype, () if axes == tuple(range(len(shape))) else axes)
        first = kind is not None or index == 1 and node.op_type not in SUMS
        suffix = "in_proj_weight" if kind == "attention" else "weight" if first else "bias"
        return Found(
            way.tensor, {self._name(node, way.tensor, suffix): (place, kind)}, index in BUFFERS.get(node.op_type, ())
        )

    def _recurrent(self, node: onnx.NodeProto, index: int, way: Way, base: str) -> Found | None:
        """Two matrices or biases a direction, with gates in torch's order; peepholes are left in the graph."""
        (shape, dtype), gates = self.shapes[way.tensor], GATES[node.op_type]
        kind = RECURRENT[node.op_type] if index in (1, 2) else None
        whole = way.whole and way.axes == tuple(range(len(shape)))
        if not whole:  # nodes put it into the file's order, so it is in torch's
            if len(shape) != 2 or kind is None:
                return None
            name = (
                way.tensor if SPELT.fullmatch(way.tensor) else base.format("weight_ih" if index == 1 else "weight_hh")
            )
            return Found(way.tensor, {name: (Place(way.tensor, shape, dtype), kind)})
        halves = (None,) if kind else (0, 1)
        if len(shape) != (3 if kind else 2) or shape[1] % (len(gates) * len(halves)):
            return None
        made = Found(way.tensor)
        for direction in range(shape[0]):
            tail = "_reverse" if direction or _attribute(node, "direction") == b"reverse" else ""
            for half in halves:
                what = {1: "weight_ih", 2: "weight_hh"}.get(index) or ("bias_hh" if half else "bias_ih")
                made.parts[base.format(what) + tail] = Place(way.tensor, shape, dtype, (), direction, half, gates), kind
        return made

    def _name(self, node: onnx.NodeProto, tensor: str, suffix: str) -> str:
        """The tensor's own name where it is one; else its bias's, or the node's path."""
        if SPELT.fullmatch(tensor) or not MADE.fullmatch(tensor) and tensor not in self.constant:
            return tensor
        for other in [*node.input, self.biases.get(node.output[0] if node.output else "", "")]:
            if other != tensor and SPELT.fullmatch(other) and other.endswith(".bias"):
                return f"{other.removesuffix('.bias')}.{suffix}"
        return f"{_path(node)}.{suffix}" if MADE.fullmatch(tensor) else tensor


def _axes(node: onnx.NodeProto, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a value behind one more step."""
    if node.op_type in ("Identity", "Cast", "Slice", "Split", "Concat"):
        return axes
    if node.op_type == "Transpose" and axes:
        given = _attribute(node, "perm")
        order = tuple(given) if given is not None else tuple(reversed(range(len(axes))))
        if sorted(order) == list(range(len(axes))):
            return tuple(axes[i] for i in order)
    return ()


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), None)


def _inputs_first(node: onnx.NodeProto, index: int) -> bool:
    """Whether the product reads its weight as [inputs, outputs]; torch keeps [outputs, inputs]."""
    if node.op_type in ("Gemm", "FusedGemm", "FusedMatMul"):
        return bool(_attribute(node, ("transA", "transB")[index])) == (index == 0)
    return index == 1 and node.op_type in ("MatMul", "Attention")


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
        if _above(base) & used:  # a tensor has the name of what would be its module
            base = base.replace(".", "_")
        full = base
        while full in used or full in levels or full in taken and full != name:
            number += 1
            full = f"{base}_{number}"
        used.add(full)
        levels |= _above(full)
        made.append(full)
    return made


def _above(name: str) -> set[str]:
    atoms = name.split(".")
    return {".".join(atoms[:i]) for i in range(1, len(atoms))}
