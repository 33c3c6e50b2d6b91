"""The graph of a subject that came as an ONNX file, with its weights as a recipe left them: the file's own nodes and opset."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper
from torch import Tensor, nn

from ..core.errors import ExportError, cause
from ..core.message import say
from ..models.calls import Call
from ..models.onnx_graph import OnnxGraph
from ..models.onnx_layout import assemble
from ..models.onnx_module import OnnxModule
from .onnx_tensors import by_name, check_model, to_proto
from .session import SessionModule, open_session

BESIDE = 1 << 30  # bytes of weights above which they lie in a file of their own: a protobuf holds 2 GiB
AXES_OPSET = 13  # from which DequantizeLinear has a scale a channel
STEPS = frozenset(
    {"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat"}
)


def filled(module: OnnxModule) -> onnx.ModelProto:
    """The file's model with the weights of ``module``."""
    model = onnx.load_from_string(module.graph.source)
    parts: dict[str, list[str]] = {}
    for name, place in module.graph.places.items():
        parts.setdefault(place.tensor, []).append(name)
    held, tensors = module.held(), by_name(model)
    for tensor, names in parts.items():
        whole = assemble([(module.graph.places[name], held[name]) for name in names])
        tensors[tensor].CopyFrom(to_proto(whole, tensors[tensor].name))
    return model


def write(module: OnnxModule, path: Path, largest: int | None = None) -> tuple[str, ...]:
    """Write the model, checked; above ``largest`` bytes of weights (1 GB) with these beside it. Returns the names of the files."""
    model = filled(module)
    size = sum(len(one.raw_data) for one in by_name(model).values())
    if size <= (BESIDE if largest is None else largest):
        check_model(model)
        path.write_bytes(model.SerializeToString())
        return (path.name,)
    beside = f"{path.name}.data"
    check_model(model)
    onnx.save_model(
        model, str(path), save_as_external_data=True, location=beside, size_threshold=1024, convert_attribute=True
    )
    return path.name, beside


def with_weights(module: OnnxModule, least: int = AXES_OPSET) -> onnx.ModelProto:
    """The graph with every parameter as an initializer under its own name, and nodes that put it into the file's layout.

    Files of an older opset than ``least`` are converted. Raises :class:`ExportError` where that is not possible.
    """
    model = onnx.load_from_string(module.graph.lifted)
    held = module.held()
    for one in [one for one in model.graph.input if one.name in held]:
        model.graph.input.remove(one)
    model.graph.initializer.extend(
        numpy_helper.from_array(tensor.detach().cpu().numpy(), name) for name, tensor in held.items()
    )
    if module.graph.opset >= least:
        return model
    model.ir_version = max(model.ir_version, 8)
    try:
        return onnx.version_converter.convert_version(model, max(least, 20))
    except Exception as error:
        raise ExportError(
            say(
                "the file is of opset {opset}, and integer weights need {least}; it cannot be converted ({cause})",
                opset=module.graph.opset, least=least, cause=cause(error, 160),
            )
        ) from None  # fmt: skip


def readers(model: onnx.ModelProto, graph: OnnxGraph) -> dict[str, list[onnx.NodeProto]]:
    """{parameter: nodes of the file that compute with it}, steps that only move entries left out."""
    names: dict[str, list[str]] = {}
    for name, place in graph.places.items():
        names.setdefault(place.tensor, []).append(name)
    carried = {tensor: set(mine) for tensor, mine in names.items()}
    found: dict[str, list[onnx.NodeProto]] = {name: [] for name in graph.places}
    for node in model.graph.node:
        mine = set().union(*(carried.get(name, set()) for name in node.input))
        if mine and node.op_type in STEPS:
            for out in node.output:
                carried[out] = carried.get(out, set()) | mine
            continue
        for name in sorted(mine):
            found[name].append(node)
    return found


def opened(path: Path, own: bool) -> nn.Module:
    """An ONNX file as a module. own: it is called with the inputs of the file that the subject came as."""
    session = open_session(path)
    if not own:
        return SessionModule(session)
    graph = OnnxGraph(b"", b"", {}, {}, 0)
    graph.__dict__["session"] = session
    return OnnxModule(graph, {})


def sizes(module: nn.Module, default: tuple[int, ...]) -> tuple[int, ...]:
    """Batches to compare a file on: a file that states a fixed one takes no other."""
    fixed = (
        {one.shape[0] for one in module.graph.inputs if one.shape and one.shape[0]}
        if isinstance(module, OnnxModule)
        else set()
    )
    return tuple(int(size) for size in fixed if size) if len(fixed) == 1 else default


def named(module: nn.Module, call: Call) -> dict[str, Tensor]:
    """{input of the exported graph: tensor} of a call."""
    return module.bind(call.args, call.kwargs) if isinstance(module, OnnxModule) else call.tensors()
