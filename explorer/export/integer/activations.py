"""Activations of an ONNX graph rounded where a plan says so: QuantizeLinear and DequantizeLinear before a layer.

ONNX Runtime runs a layer on integers where both of its inputs come from a DequantizeLinear; a convolution's output must
then be rounded, too. Where the next layer does not do so (a residual sum follows, say), we add it, with the range
that the output has on the calibration samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...compress.codes import Uniform

READ = {"Conv": 0, "ConvTranspose": 0, "Gemm": 0, "LSTM": 0, "GRU": 0, "RNN": 0}  # the input that a weight multiplies
KEEPS_ORDER = frozenset({"Relu", "MaxPool", "Clip", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})


def data_input(node: onnx.NodeProto, weights: frozenset[str]) -> int | None:
    """Which input of a node is the activation that its weight multiplies."""
    if node.op_type in READ:
        return READ[node.op_type]
    if node.op_type == "MatMul":
        return next((i for i, name in enumerate(node.input) if name not in weights), None)
    return None


class Rounding:
    """Adds pairs of QuantizeLinear and DequantizeLinear to a graph, each once a value and range."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.made: dict[tuple[str, float, int, int, int], str] = {}
        self.before: dict[int, list[onnx.NodeProto]] = {}  # {position in the graph: nodes to insert there}
        self.places = {name: i + 1 for i, node in enumerate(model.graph.node) for name in node.output}

    def round(self, value: str, how: Uniform) -> str:
        """The name of the rounded value."""
        scale, zero = float(how.scale), int(how.zero_point)
        key = (value, scale, zero, how.low, how.high)
        if key not in self.made:
            self.made[key] = self._add(value, f"{value}_r{len(self.made)}", scale, zero, how.low, how.high)
        return self.made[key]

    def _add(self, value: str, name: str, scale: float, zero: int, low: int, high: int) -> str:
        unsigned = low >= 0
        kind = np.uint8 if unsigned else np.int8
        parts = {"scale": np.float32(scale), "zero": kind(zero)}
        nodes, source = [], value
        if (low, high) != ((0, 255) if unsigned else (-128, 127)):  # the type holds more codes than the rule has
            parts |= {"low": np.float32((low - zero) * scale), "high": np.float32((high - zero) * scale)}
            nodes.append(
                helper.make_node("Clip", [value, f"{name}_low", f"{name}_high"], [f"{name}_clip"], f"{name}_clip")
            )
            source = f"{name}_clip"
        self.model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(part), f"{name}_{key}") for key, part in parts.items()
        )
        both = [f"{name}_scale", f"{name}_zero"]
        nodes.append(helper.make_node("QuantizeLinear", [source, *both], [f"{name}_codes"], f"{name}_quantize"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_codes", *both], [name], f"{name}_dequantize"))
        self.before.setdefault(self.places.get(value, 0), []).extend(nodes)
        return name

    def done(self) -> None:
        """Put the new nodes where their values are made."""
        nodes = list(self.model.graph.node)
        del self.model.graph.node[:]
        for i, node in enumerate(nodes):
            self.model.graph.node.extend([*self.before.get(i, []), node])
        self.model.graph.node.extend(self.before.get(len(nodes), []))


def round_inputs(
    model: onnx.ModelProto, layers_of: Mapping[str, frozenset[str]], inputs: Mapping[str, Uniform]
) -> set[str]:
    """Round, in place, what each layer's weight multiplies. layers_of: {weight: layers it comes from}.

    Returns the layers whose rule is in the graph; a hidden state within a recurrent operator cannot be.
    """
    rounding, done = Rounding(model), set()
    for node in model.graph.node:
        weights = frozenset(name for name in node.input if layers_of.get(name))
        at = data_input(node, weights)
        mine = {layer for name in weights for layer in layers_of[name] if layer in inputs and not _hidden(layer)}
        if at is None or not mine:
            continue
        node.input[at] = rounding.round(node.input[at], inputs[sorted(mine)[0]])
        done |= mine
    rounding.done()
    return done


def _hidden(layer: str) -> bool:
    return layer.rpartition(".")[2].startswith(("weight_hh", "weight_hr"))


def bare_outputs(model: onnx.ModelProto) -> list[str]:
    """Values of convolutions that run on integers but for their output, which nothing rounds."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def rounded(value: str) -> bool:
        mine = readers.get(value, [])
        return bool(mine) and all(
            n.op_type == "QuantizeLinear" or (n.op_type in KEEPS_ORDER and rounded(n.output[0])) for n in mine
        )

    def integer(node: onnx.NodeProto) -> bool:
        return all(name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2])

    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and integer(node)]
    return [node.output[0] for node in convolutions if not rounded(node.output[0])]


def round_outputs(model: onnx.ModelProto, ranges: Mapping[str, Uniform]) -> None:
    """Round, in place, the named values for all that read them."""
    rounding = Rounding(model)
    renamed = {value: rounding.round(value, how) for value, how in ranges.items()}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in renamed:
                node.input[i] = renamed[name]
    rounding.done()


def with_outputs(model: onnx.ModelProto, values: Iterable[str]) -> onnx.ModelProto:
    """A copy that also returns the named values."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    out.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    return out
