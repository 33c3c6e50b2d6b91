"""torch module -> ONNX graph. The one place that talks to torch.onnx."""

from __future__ import annotations

import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ..core.errors import ExportError
from ..core.message import say
from ..models.calls import Call
from ..models.lengths import followed
from ..models.stack import RecurrentStack
from ..models.subject import Subject
from ..models.trace import forget_missing
from .onnx_attention import attention
from .onnx_flatten import flatten_directions
from .tracing import tracing

OPSET = 20
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # torch.onnx writes its messages for terminals


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx warns about torchvision and its own deprecations, none of it news to the caller."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _leaves(value: Any, name: str = "") -> list[str]:
    """A name for each tensor of nested outputs: the keys that lead to it; "" where none does."""
    if isinstance(value, dict):
        return [leaf for key, one in value.items() for leaf in _leaves(one, f"{name}_{key}" if name else str(key))]
    if isinstance(value, (tuple, list)):
        return [leaf for i, one in enumerate(value) for leaf in _leaves(one, f"{name}_{i}" if name else "")]
    return [name] if isinstance(value, Tensor) else []


def _batched(value: Any) -> Any:
    """Dynamic shapes of an argument: dim 0 of every tensor is the batch."""
    if isinstance(value, Tensor):
        return {0: torch.export.Dim("batch", min=1)} if value.ndim else {}
    if isinstance(value, dict):
        return {key: _batched(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_batched(one) for one in value)
    return None


def names(subject: Subject, module: nn.Module, call: Call) -> tuple[list[str], list[str]]:
    """Names of the graph's inputs and outputs: the keys of outputs by name; else the first one of a classifier or language model is
    "logits"."""
    first = "logits" if subject.task.kind in ("classification", "language_model") else "output"
    inputs, outputs = list(call.tensors()), _leaves(call(module))
    if outputs and all(outputs) and len({*inputs, *outputs}) == len(inputs) + len(outputs):
        return inputs, outputs
    return inputs, [first, *(f"output_{i + 1}" for i in range(1, len(outputs)))]


def to_onnx(subject: Subject, module: nn.Module, call: Call, *, optimize: bool = True) -> onnx.ModelProto:
    """Export with a dynamic batch; ``call`` holds a batch of two or more, so that no size 1 is baked in.

    nn.RNN, or a stack of its layers, goes through the older exporter, which writes the RNN operator where the newer
    one unrolls time.
    optimize False keeps a node a module (BatchNorm unfolded). Raises :class:`ExportError`.
    """
    plain = copy.deepcopy(module).eval().requires_grad_(False)  # an export may leave traces on what it exports
    projected = next((name for name, c in plain.named_modules() if getattr(c, "proj_size", 0)), None)
    if projected is not None:
        raise ExportError(
            say(
                "{subject}: {module} is an LSTM with projections, which the LSTM operator of ONNX does not have; other formats do",
                subject=subject.name,
                module=projected,
            )
        )
    inputs, outputs = names(subject, plain, call)
    recurrent = any(isinstance(c, nn.RNN) or isinstance(c, RecurrentStack) and c.mode == "RNN" for c in plain.modules())
    attempts = (_older,) if recurrent else (_newer, _older)
    problems = []
    with tracing(), _quiet(), torch.no_grad(), followed(plain):
        for attempt in attempts:
            forget_missing()
            try:
                return _called(attempt(plain, call, inputs, [f"output_{i + 1}" for i in range(len(outputs))], optimize), outputs)
            except Exception as error:  # any module may come here
                lines = COLOUR.sub("", str(error)).strip().splitlines() or [""]
                problems.append(f"{type(error).__name__}: {lines[0][:200]}")
    raise ExportError(
        say(
            "{subject}: torch.onnx cannot export this model ({problems}); other formats may",
            subject=subject.name,
            problems="; ".join(problems),
        )
    )


def _called(model: onnx.ModelProto, wanted: list[str]) -> onnx.ModelProto:
    """Give the outputs, in place, these names, those apart that another value of the graph has already."""
    graph = model.graph
    taken = {name for node in graph.node for name in node.output} | {one.name for one in [*graph.input, *graph.initializer]}
    new = {one.name: name for one, name in zip(graph.output, wanted, strict=False) if name not in taken}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    for one in [*graph.output, *graph.value_info]:
        one.name = new.get(one.name, one.name)
    return model


def _newer(module: nn.Module, call: Call, inputs: list[str], outputs: list[str], optimize: bool) -> onnx.ModelProto:
    import inspect

    args = list(inspect.signature(module.forward).parameters)[: len(call.args)]
    shapes = {name: _batched(value) for name, value in [*zip(args, call.args, strict=True), *call.kwargs.items()]}
    program = torch.onnx.export(
        module, call.args, kwargs=call.kwargs or None, dynamo=True, opset_version=OPSET, optimize=optimize,
        verbose=False, input_names=inputs, output_names=outputs, dynamic_shapes=shapes, external_data=False,
        custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: attention},
    )  # fmt: skip
    assert program is not None
    return flatten_directions(program.model_proto) if optimize else program.model_proto


def _older(module: nn.Module, call: Call, inputs: list[str], outputs: list[str], optimize: bool) -> onnx.ModelProto:
    buffer: Any = io.BytesIO()
    torch.onnx.export(
        module, call.args, buffer, kwargs=call.kwargs or None, dynamo=False, opset_version=OPSET, verbose=False,
        do_constant_folding=optimize, input_names=inputs, output_names=outputs,
        dynamic_axes={name: {0: "batch"} for name in [*inputs, *outputs]},
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove, in place, what an exporter leaves of the machine it ran on: stack traces, doc strings, metadata."""
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in [model.graph, *model.functions]:
        _strip(graph)
    return model


def _strip(part: Any) -> None:
    part.doc_string = ""
    del part.metadata_props[:]
    for node in part.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _strip(inner)
    if isinstance(part, onnx.GraphProto):
        for value in [*part.input, *part.output, *part.value_info, *part.initializer]:
            value.doc_string = ""
            del value.metadata_props[:]
        if len(part.name) > 40 or "/" in part.name or "\\" in part.name:
            part.name = "model"
