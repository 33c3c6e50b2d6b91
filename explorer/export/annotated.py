"""The graph for the screen: an ONNX model whose nodes know which layer they are and what a plan did to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from ..compress.build import build
from ..compress.plan import Plan
from ..core.report import LayerCount
from ..evaluate.costs import counts
from ..models.onnx_module import OnnxModule
from ..models.subject import Subject
from .fold import consumers, fold
from .onnx_own import filled, readers
from .skeleton import skeleton, tidy

PICTURE = 20 << 20  # bytes of weights above which the picture is drawn without them


@dataclass(frozen=True, eq=False)
class AnnotatedGraph:
    """onnx: a model file for a viewer; it is not meant to be run, and leaves out the data of large weights.

    marks: {ONNX node name: {"layer": FQN of its first layer, "sparsity": fraction, "bits": int, "full": bits of
    the original's values}}; a node that computes
    with several layers (a recurrent one) has their sparsity together and their lowest bits; "layers" names them all.
    """

    onnx: bytes
    marks: Mapping[str, Mapping[str, Any]]


def annotated(subject: Subject, plan: Plan) -> AnnotatedGraph:
    """The compressed module as an annotated graph; an empty plan gives the original. Cached by content.

    Every layer that takes part in the computation marks the node(s) that compute with it. Raises
    :class:`ExportError` where torch.onnx cannot export the model.
    """
    key = ("annotated", subject.version, plan.digest)
    return subject.memo.get(key, lambda: _annotated(subject, plan))


def _annotated(subject: Subject, plan: Plan) -> AnnotatedGraph:
    module = build(subject, plan.without_inputs()).to("cpu")
    if isinstance(module, OnnxModule):
        model = filled(module)
        _name_nodes(model)
        of_layer = readers(model, module.graph)
    else:
        model = skeleton(subject, plan, module)
        sources = fold(model)
        tidy(model, {name for name, found in sources.items() if found & {layer.name for layer in subject.layers}})
        _name_nodes(model)
        of_layer = consumers(model, sources)
    seen = counts(subject, plan).layers
    per_node: dict[str, list[LayerCount]] = {}
    nodes = {node.name: node for node in model.graph.node}
    for layer in subject.layers:
        for node in of_layer.get(layer.name, []):
            per_node.setdefault(node.name, []).append(seen[layer.name])
    produced = {name: group.name for group in subject.groups for name in group.producers}
    marks = {}
    for name, layers in per_node.items():
        original = sum(layer.original for layer in layers)
        nonzero = sum(layer.nonzero for layer in layers)
        marks[name] = {
            "layer": layers[0].name,
            "layers": tuple(layer.name for layer in layers),
            "sparsity": 1 - nonzero / original if original else 0.0,
            "bits": min(layer.bits for layer in layers),
            "full": min(subject.layer(layer.name).bits for layer in layers),
        }
        for one in layers:
            _annotate(nodes[name], one, plan, produced.get(one.name), len(layers) > 1)
    _drop_large(model)
    return AnnotatedGraph(model.SerializeToString(), marks)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Every node gets a name of its own, safe as part of an element's id."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        plain = "".join(c if c.isalnum() or c == "_" else "_" for c in node.name) or f"{node.op_type}_{index}"
        node.name = plain if plain not in taken else f"{plain}_{index}"
        taken.add(node.name)


def _annotate(node: onnx.NodeProto, layer: LayerCount, plan: Plan, group: str | None, several: bool) -> None:
    prefix = f"{layer.name.rpartition('.')[2]}: " if several else ""
    codes = plan.codes.get(layer.name)
    values = {
        "layer": layer.name,
        "shape": " x ".join(map(str, layer.shape)),
        "sparsity": f"{100 * layer.sparsity:.1f} %",
        "bits": str(layer.bits),
    }
    if codes is not None:
        values["scheme"] = f"{codes.scheme}, per {codes.slices.granularity}"
    if group is not None and group in plan.kept:
        values["units kept"] = str(len(plan.kept[group]))
    for key, value in values.items():
        node.metadata_props.add(key=prefix + key, value=value)


def _drop_large(model: onnx.ModelProto) -> None:
    """A viewer needs the shapes; above the limit the data of the largest tensors is left out."""
    total = sum(len(one.raw_data) for one in model.graph.initializer)
    for one in sorted(model.graph.initializer, key=lambda one: -len(one.raw_data)):
        if total <= PICTURE:
            break
        total -= len(one.raw_data)
        one.ClearField("raw_data")
