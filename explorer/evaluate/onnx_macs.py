"""Multiply-accumulates of an ONNX graph, counted from the shapes that one sample has at each product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import ExplorerError
from ..core.message import Message, say
from ..models.calls import calls
from ..models.onnx_graph import open_lifted
from ..models.onnx_module import OnnxModule
from ..models.subject import Subject

if TYPE_CHECKING:
    from .macs import Macs

CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvInteger"})
PRODUCTS = frozenset({"MatMul", "FusedMatMul", "MatMulInteger"})
GEMMS = frozenset({"Gemm", "FusedGemm"})
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
COUNTED = CONVOLUTIONS | PRODUCTS | GEMMS | RECURRENT | {"ConvTranspose", "Einsum"}
# they multiply too, in ways that are not counted here
UNKNOWN = frozenset(
    {"Attention", "MultiHeadAttention", "GroupQueryAttention", "QLinearConv", "QLinearMatMul", "QGemm", "MatMulNBits", "DynamicQuantizeLSTM",
     "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "LinearAttention", "DeformConv", "DFT", "STFT"}
)  # fmt: skip
Shape = tuple[int, ...]


def in_graph(subject: Subject, module: OnnxModule) -> Macs:
    """As :func:`explorer.evaluate.macs.count`; one session with the products' values among its outputs."""
    import onnx

    from .macs import Macs

    model = onnx.load_from_string(module.graph.lifted)
    odd = _odd(model)
    if odd is not None:
        return Macs(None, {}, odd)
    found = [node for node in model.graph.node if node.op_type in COUNTED]
    try:
        call = calls(subject, module, (1,))[0]
        feed = {name: value.numpy() for name, value in module.bind(call.args, call.kwargs).items()}
        for one in module.graph.inputs:  # a file made for a fixed number of samples
            if one.shape and one.shape[0] not in (None, len(feed[one.name])):
                feed[one.name] = feed[one.name].repeat(one.shape[0], axis=0)
        batch = max((len(value) for value in feed.values() if value.ndim), default=1)
        shapes = _shapes(model, found, feed | module.weights(), module)
    except ExplorerError as error:
        return Macs(None, {}, str(error))
    layers = _layers(module)
    modules: dict[str, int] = {}
    held = {*module.held(), *(one.name for one in model.graph.initializer)}
    total = between = 0
    for node in found:
        macs = _macs(node, shapes)
        total += macs
        sources = _sources(model, node)
        between += 0 if sources & held else macs
        for owner in {layers[name] for name in sources if name in layers}:
            modules[owner] = modules.get(owner, 0) + macs // batch
    apart = {"": between // batch} if between else {}  # of no layer, so of no module
    return Macs(total // batch, modules, between=apart) if total else Macs(None, {}, say("its graph holds no product"))


def _odd(model: Any) -> Message | None:
    for node in model.graph.node:
        if node.op_type in UNKNOWN:
            return say("the products of {name} are not counted", name=node.op_type)
        for attribute in node.attribute:
            graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            if any(inner.op_type in COUNTED | UNKNOWN for graph in graphs for inner in graph.node):
                return say("how often the products within {name} run depends on the data", name=node.op_type)
    return None


def _shapes(model: Any, found: list[Any], feed: Mapping[str, Any], module: OnnxModule) -> dict[str, Shape]:
    import onnx

    shapes: dict[str, Shape] = {one.name: tuple(one.dims) for one in model.graph.initializer}
    shapes |= {name: tuple(value.shape) for name, value in feed.items()}
    wanted = {name for node in found for name in [*node.input[:3], *node.output[:1]] if name} - set(shapes)
    outputs = {one.name for one in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - outputs))
    session = open_lifted(model.SerializeToString(), module.graph.memory)
    names = [one.name for one in session.get_outputs()]
    return shapes | {
        name: tuple(value.shape) for name, value in zip(names, module.graph.run(dict(feed), session), strict=True)
    }


def _macs(node: Any, shapes: Mapping[str, Shape]) -> int:
    """Of one node. Source: the ONNX specification of each operator."""
    given = {one.name: one for one in node.attribute}
    first, second, out = shapes[node.input[0]], shapes[node.input[1]], shapes.get(node.output[0], ())
    if node.op_type in CONVOLUTIONS:
        return math.prod(out) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    if node.op_type in RECURRENT:
        return math.prod(first[:-1]) * (math.prod(second) + math.prod(shapes[node.input[2]]))
    if node.op_type == "Einsum":
        return _einsum(given["equation"].s.decode(), [shapes[name] for name in node.input])
    turned = "transA" in given and given["transA"].i
    return math.prod(out) * (first[-2] if turned else first[-1])


def _einsum(equation: str, operands: list[Shape]) -> int:
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, operands, strict=True):
        letters = [*term.replace("...", "")]
        dots = len(shape) - len(letters)
        names = [name for part in (term.replace("...", "." * dots),) for name in part]
        for i, (name, size) in enumerate(zip(names, shape, strict=True)):
            key = f".{i}" if name == "." else name
            sizes[key] = max(sizes.get(key, 1), size)
    return math.prod(sizes.values()) if len(operands) > 1 else 0


def _layers(module: OnnxModule) -> dict[str, str]:
    """{tensor of the file, or the parameter's own name: FQN of the module that owns the parameter}."""
    return {key: name.rpartition(".")[0] for name, place in module.graph.places.items() for key in (name, place.tensor)}


def _sources(model: Any, node: Any) -> set[str]:
    """What a node reads, through the steps in front of its weights."""
    makers = {
        out: one
        for one in model.graph.node
        for out in one.output
        if one.op_type in ("Transpose", "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")
    }
    names = set()
    for name in node.input:
        while name in makers:
            names.add(name)
            name = makers[name].input[0]
        names.add(name)
    return names
