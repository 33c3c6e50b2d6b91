"""Plan -> ONNX graph in which coded weights are integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor, nn

from ...compress.plan import Plan
from ...models.subject import Subject
from ..fold import fold, inner
from ..onnx_graph import OPSET as TORCH_OPSET
from ..skeleton import skeleton, tidy
from ..steps import Steps, pruned, steps_of
from . import normalization
from .weights import INT4_OPSET, Weight, stored


class Graph:
    """A folded graph, and for each of its weights the layers it comes from and, where these are coded, its integers."""

    def __init__(self, subject: Subject, plan: Plan, module: nn.Module, narrow: bool = False) -> None:
        bare = skeleton(subject, plan, module, *((TORCH_OPSET,) if narrow else ()))
        self.model = onnx.ModelProto()
        self.model.CopyFrom(bare)
        self.sources = fold(self.model)
        layers = {layer.name for layer in subject.layers}
        tidy(self.model, {name for name, found in self.sources.items() if found & layers})
        self.integers: set[str] = set()  # weights that the graph holds as integers
        self.coded = _coded(self.model, bare, self.sources, _steps(subject, plan), plan)
        normalization.merge(self.model, self._multiply)
        drop_unread(self.model)

    def _multiply(self, name: str, factor: np.ndarray) -> None:
        initializer = next(one for one in self.model.graph.initializer if one.name == name)
        if name in self.coded:
            self.coded[name] = self.coded[name].times(factor)
            value = self.coded[name].value
        else:
            value = (numpy_helper.to_array(initializer) * factor).astype(np.float32)
        initializer.CopyFrom(numpy_helper.from_array(value, name))

    def layers_of(self, node: onnx.NodeProto) -> frozenset[str]:
        """Names of the original tensors that a node reads."""
        return frozenset().union(*(self.sources.get(name, frozenset()) for name in node.input))

    def store(self, narrow: bool) -> list[str]:
        """Replace coded weights by their integers, in place; returns the names of those that stay floats."""
        graph, left = self.model.graph, []
        nodes: list[onnx.NodeProto] = []
        for one in list(graph.initializer):
            if one.name not in self.coded:
                continue
            made = stored(one.name, self.coded[one.name], narrow)
            if made is None:
                left.append(one.name)
                continue
            self.integers.add(one.name)
            graph.initializer.remove(one)
            graph.initializer.extend(made[0])
            nodes += made[1]
        everything = [*nodes, *graph.node]
        del graph.node[:]
        graph.node.extend(everything)
        if narrow:
            for opset in self.model.opset_import:
                if opset.domain == "":
                    opset.version = max(opset.version, INT4_OPSET)
        return left


def _steps(subject: Subject, plan: Plan) -> dict[str, Steps]:
    found = {}
    for name, codes in plan.codes.items():
        weight = pruned(plan.layers[name], subject.weight(name))
        steps = steps_of(codes, weight) if weight.numel() else None  # a layer that went whole has none
        if steps is not None:
            found[name] = steps
    return found


def _coded(
    model: onnx.ModelProto, bare: onnx.ModelProto, sources: Mapping[str, frozenset[str]], steps: Mapping[str, Steps], plan: Plan
) -> dict[str, Weight]:  # fmt: skip
    """{initializer: its integers}: codes, zeros and scales take the way that the weights took through the graph."""
    taken = {name: found & set(plan.layers) for name, found in sources.items()}
    wanted = [name for name, found in taken.items() if found and found == sources[name] and found <= set(steps)]
    if not wanted:
        return {}
    parts = {
        key: _folded(bare, {name: _spread(getattr(one, key), one.code) for name, one in steps.items()})
        for key in ("code", "zero", "scale")
    }
    real = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    out = {}
    for name in wanted:
        if name not in real or real[name].ndim < 2:
            continue
        mine = [steps[layer] for layer in taken[name]]
        code, zero, scale = (parts[key][name] for key in ("code", "zero", "scale"))
        block = next((plan.codes[layer].slices.size for layer in taken[name]), None)
        low, high = min(one.low for one in mine), max(one.high for one in mine)
        weight = Weight(code, zero, scale, low, high, all(one.whole for one in mine), block)
        if np.allclose(weight.value, real[name], rtol=1e-6, atol=0):  # else something else was done to it on its way
            out[name] = weight
    return out


def _spread(values: Tensor, like: Tensor) -> np.ndarray:
    return np.array(values.float().expand(like.shape).cpu().numpy(), order="C")


def _folded(bare: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = onnx.ModelProto()
    model.CopyFrom(bare)
    for one in model.graph.initializer:
        if one.name in values:
            one.CopyFrom(numpy_helper.from_array(values[one.name], one.name))
    fold(model)
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def drop_unread(model: onnx.ModelProto) -> None:
    """Remove, in place, initializers that nothing reads, and nodes whose outputs nothing reads."""
    read = {one.name for one in model.graph.output}
    for node in reversed(list(model.graph.node)):
        if read.intersection(node.output):
            read.update(node.input)
            read.update(inner(node))
        else:
            model.graph.node.remove(node)
    for one in [one for one in model.graph.initializer if one.name not in read]:
        model.graph.initializer.remove(one)


def finished(model: onnx.ModelProto) -> bytes:
    """The file's bytes, checked against the ONNX specification."""
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
