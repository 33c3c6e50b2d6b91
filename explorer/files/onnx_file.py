"""An ONNX file as a module: read within limits, its weights found, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import torch
from torch import Tensor

from ..core.errors import LoadError, cause
from ..core.message import Message, say
from ..export.onnx_tensors import FLOATS, by_name, check_model, to_proto
from ..models.onnx_graph import TYPES, OnnxGraph
from ..models.onnx_layout import Place, numel
from ..models.onnx_module import OnnxModule
from . import onnx_tensors as tensors
from .archive import opened
from .limits import STRANGERS, Limits, check_size
from .onnx_gate import gate, nodes
from .onnx_lift import lift
from .onnx_weights import Finder, Found, safe
from .protobuf import LARGEST, Walk

SECONDS = 60  # of one run on a shared server
MEMORY = 2 << 30  # bytes of a run's values there
EXPORTED = "model.onnx"
SMALL = 16  # entries up to which a tensor stays in the graph where the file's constants are kept apart


def read_onnx(path: Path, within: Limits) -> OnnxModule:
    """The module of a file, of the one in a folder, or of the one in a zip, with its external data.

    Raises :class:`LoadError` for a damaged or hostile file, an operator of somebody's own, a graph without floating weights.
    """
    try:
        if path.is_dir():
            return _read(_only(path, [p for p in path.iterdir() if p.suffix.lower() == ".onnx"]), within)
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        return _of_zip(path, within) if zipped else _read(path, within)
    except LoadError as error:
        if str(error).startswith(str(path)):
            raise
        raise LoadError(say("{path}: {error}", path=path, error=error.message)) from None
    except (OSError, MemoryError, RecursionError):
        raise
    except Exception as error:  # a file made to break the reader is still only a file that cannot be loaded
        raise LoadError(say("{path}: the graph is malformed ({cause})", path=path, cause=cause(error, 160))) from None


def _only(where: Path, found: list[Any]) -> Any:
    found = [one for one in found if str(one).rpartition("/")[2] == EXPORTED] or found  # other formats lie beside it
    if len(found) != 1:
        raise LoadError(say("{path}: {count} ONNX files in it; accepted: one", path=where, count=len(found)))
    return found[0]


def _read(path: Path, within: Limits) -> OnnxModule:
    check_size(path, min(within.file, LARGEST))
    return module_of(path.read_bytes(), tensors.beside(path.parent), path, within)


def _of_zip(path: Path, within: Limits) -> OnnxModule:
    with opened(path, within) as archive:
        name = _only(path, [name for name in archive.members if name.lower().endswith(".onnx")])
        folder = name.rpartition("/")[0]
        inside = archive.below(folder)

        def read(location: str) -> Tensor:
            if location not in inside:
                raise LoadError(
                    say(
                        "its weights lie in {file}, which is not there; open or send both, in one zip",
                        file=location[:80],
                    )
                )
            return torch.frombuffer(
                bytearray(archive.read(f"{folder}/{location}" if folder else location)), dtype=torch.uint8
            )

        return module_of(archive.read(name, LARGEST), read, path, within)


def module_of(data: bytes, read: tensors.Bytes, path: Path, within: Limits) -> OnnxModule:
    """The module of a serialized model. read: where external data come from."""
    Walk(data, onnx.ModelProto.DESCRIPTOR, "TensorProto", path, within)
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:
        raise LoadError(say("{path}: no usable ONNX file: {what}", path=path, what=cause(error, 120))) from None
    if not model.HasField("graph") or not model.graph.node:
        raise LoadError(say("{path}: no usable ONNX file: {what}", path=path, what=say("there is no graph in it; accepted: an .onnx file of a model")))
    del model.training_info[:]
    stranger = within is STRANGERS
    gate(model, within, stranger)
    values = _values(model, read)
    notes = _notes(model, values)
    plain = _inlined(model)
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in values.items()}
    found = Finder(plain.graph, shapes, frozenset(values) - {one.name for one in plain.graph.initializer}).find()
    places, kinds, buffers = _places(plain.graph, found)
    if not any(kind for kind in kinds.values()):
        raise LoadError(say("{path}: no floating weights in its graph; nothing to prune or to quantize", path=path))
    held = {place.tensor for place in places.values()}
    _fill(plain, {name: value for name, value in values.items() if name not in held})
    _fill(model, {name: value for name, value in values.items() if name not in held})
    lift(plain, places)
    check_model(plain)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    seconds, memory = (SECONDS, MEMORY) if stranger else (None, None)
    graph = OnnxGraph(
        model.SerializeToString(), plain.SerializeToString(), places, kinds, opset, seconds, memory, notes
    )
    return OnnxModule(graph, {name: place.read(values[place.tensor]) for name, place in places.items()}, buffers)


def _values(model: onnx.ModelProto, read: tensors.Bytes) -> dict[str, Tensor]:
    """{name: tensor} of the main graph's floating tensors, taken out of the model; every tensor in it is checked."""
    files: dict[str, Tensor] = {}
    main = by_name(model)
    names = {id(one): name for name, one in main.items()}
    found = {}
    for one in tensors.every(model):
        name = names.get(id(one))
        if one.data_location == onnx.TensorProto.EXTERNAL:
            mapped = tensors.fetch(one, files, read)
            if mapped is not None and name is not None:
                found[name] = mapped
                continue
            if mapped is not None:
                one.CopyFrom(to_proto(mapped, one.name))
        tensors.check(one)
        if name is not None and one.data_type in FLOATS:
            found[name] = tensors.value_of(one)
    for name, value in found.items():
        if value.numel() > SMALL:
            _empty(main[name])
    return found


def _empty(tensor: onnx.TensorProto) -> None:
    for field in ("raw_data", "float_data", "int32_data", "double_data"):
        tensor.ClearField(field)  # type: ignore[arg-type]


def _fill(model: onnx.ModelProto, values: Mapping[str, Tensor]) -> None:
    """Give tensors their data back."""
    for name, one in by_name(model).items():
        if name in values:
            one.CopyFrom(to_proto(values[name], one.name))


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without functions."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    if plain.functions:
        plain = onnx.inliner.inline_local_functions(plain)
    del plain.metadata_props[:]
    return plain


def _places(
    graph: onnx.GraphProto, found: list[Found]
) -> tuple[dict[str, Place], dict[str, str | None], frozenset[str]]:
    parts = [(name, place, kind, one) for one in found for name, (place, kind) in one.parts.items()]
    taken = frozenset(
        {one.name for one in [*graph.input, *graph.initializer]}
        | {out for node in nodes(graph.node) for out in node.output}
    )
    names = safe([name for name, *_ in parts], taken)
    places, kinds, buffers = {}, {}, set()
    for full, (_, place, kind, one) in zip(names, parts, strict=True):
        places[full], kinds[full] = place, kind
        if one.buffer:
            buffers.add(full)
    return places, kinds, frozenset(buffers)


def _notes(model: onnx.ModelProto, values: Mapping[str, Tensor]) -> tuple[Message, ...]:
    inner = [
        one.name or "?"
        for one in tensors.every(model)
        if one.data_type in FLOATS and one.name not in values and numel(one.dims) > SMALL
    ]
    return (
        (say("left as they are, within functions or inner graphs: {names}", names=", ".join(sorted(inner)[:8])),)
        if inner
        else ()
    )


def why_not_run(module: OnnxModule) -> Message | None:
    """Why the graph cannot be called with tensors; None where it can."""
    try:
        session = module.graph.session
    except LoadError as error:
        return error.message  # type: ignore[return-value]
    for one in [one for one in session.get_inputs() if one.name not in module.graph.places]:
        if one.type not in TYPES:
            return say(
                "its input {name} is of type {type}; accepted: a tensor of numbers",
                name=one.name[:80],
                type=one.type[:80],
            )
    if not module.graph.inputs:
        return say("its graph has no inputs")
    return None
