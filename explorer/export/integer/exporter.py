"""What the ONNX files of integers share: how they are written, compared and used."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import torch
from torch import nn

from ...compress.apply import compress
from ...compress.codes import Uniform
from ...compress.plan import Plan
from ...compress.ranges import uniform
from ...compress.slices import Slices
from ...core.message import say
from ...core.recipe import Recipe
from ...models.calls import calls
from ...models.onnx_module import OnnxModule
from ...models.subject import Subject
from ...models.trial import difference, tensors
from ..described import SIZES
from ..exporters import Exporter, Written, refuse_types
from ..onnx_own import named, opened, sizes
from . import activations, dense, lstm
from .convert import Graph, finished

CALIBRATION = 128  # samples of the train split


class IntegerOnnx(Exporter):
    """A graph whose coded weights are integers. narrow: 4-bit codes lie two in a byte."""

    narrow: ClassVar[bool] = False
    simulated = True
    tolerance = 0.25  # of a rounded run; whether it answers as its simulation is another, stricter question

    def __init__(self) -> None:
        self.own = False  # whether the subject came as an ONNX file
        self.stated: frozenset[str] = frozenset()  # layers whose activations are to be rounded exactly as calibrated

    @abstractmethod
    def meaning(self, subject: Subject, recipe: Recipe) -> Recipe: ...

    def write(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> Written:
        self.own = isinstance(module, OnnxModule)
        if not self.own:
            refuse_types(subject, module, self.filename, lambda dtype: dtype != torch.float32)
        bare = compress(subject, plan.without_inputs()).to("cpu") if plan.inputs else module
        graph = Graph(subject, plan, bare, self.narrow)
        inputs = plan.inputs
        eight = {name for name, how in inputs.items() if (how.low, how.high) == (0, 255) and name not in self.stated}
        dynamic = {name for name, found in graph.sources.items() if found and found <= eight}
        weights = {name: found for name, found in graph.sources.items() if found & set(plan.layers)}
        within = self._recurrent(graph, eight) | dense.replace(graph.model, graph.coded, dynamic)
        graph.integers |= within
        at_run_time = frozenset().union(*(graph.sources[name] for name in within))
        for name in within:
            del graph.coded[name]
        graph.store(self.narrow)
        rounded = activations.round_inputs(graph.model, weights, inputs)
        if rounded:
            activations.round_outputs(graph.model, _ranges(subject, bare, graph.model))
        (folder / self.filename).write_bytes(finished(graph.model))
        return Written((self.filename,), self._notes(subject, plan, bare, graph, rounded | at_run_time))

    def _recurrent(self, graph: Graph, eight: set[str]) -> set[str]:
        wanted = {name: one for name, one in graph.coded.items() if graph.sources[name] <= eight}
        return lstm.replace(graph.model, wanted)

    def _notes(
        self, subject: Subject, plan: Plan, module: nn.Module, graph: Graph, rounded: set[str]
    ) -> tuple[str, ...]:
        stored = {layer for name in graph.integers for layer in graph.sources[name]}
        left = dict(module.named_parameters(remove_duplicate=False))  # layers may have gone whole
        floats = [layer.name for layer in subject.layers if layer.name in left and layer.name not in stored]
        bare = [layer for layer in plan.inputs if layer not in rounded]
        notes = []
        if self.own:
            notes.append(say("{file}: weights are integers, activations stay floats, in the graph that the model came as", file=self.filename))
        if floats:
            notes.append(say("{file}: stored as floats: {layers}", file=self.filename, layers=", ".join(floats)))
        if bare:
            notes.append(
                say(
                    "{file}: activations computed in floats, since its operators round none: {layers}",
                    file=self.filename,
                    layers=", ".join(bare),
                )
            )
        return tuple(notes)

    def verify(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> float:
        session = self.loaded(folder)
        worst = 0.0
        for call in calls(subject, module, sizes(module, SIZES)):
            worst = max(worst, difference(tensors(call(module)), tensors(call(session))))
        return worst

    def loaded(self, folder: Path) -> nn.Module:
        return opened(folder / self.filename, self.own)

    def usage(self, subject: Subject, module: nn.Module) -> str:
        from ..exporters import registry

        return registry["onnx"]().usage(subject, module).replace(registry["onnx"].filename, self.filename)


def _ranges(subject: Subject, module: nn.Module, model: onnx.ModelProto) -> dict[str, Uniform]:
    """Ranges, over calibration samples, of the convolutions' outputs that nothing rounds."""
    values = activations.bare_outputs(model)
    if not values:
        return {}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    whole = activations.with_outputs(model, values).SerializeToString()
    session = onnxruntime.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
    call = calls(subject, module, (CALIBRATION,))[0]
    given = named(module, call)
    found = session.run(values, {one.name: given[one.name].numpy() for one in session.get_inputs()})
    return {value: _affine(array) for value, array in zip(values, found, strict=True)}


def _affine(values: np.ndarray) -> Uniform:
    least, most = torch.tensor([float(values.min())]), torch.tensor([float(values.max())])
    return uniform(least, most, 8, "affine", Slices())
