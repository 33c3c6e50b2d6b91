"""Tensors of ONNX files: their bytes checked against their shapes, wherever these lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from ..core.errors import LoadError
from ..core.message import say
from ..export.onnx_tensors import FLOATS
from ..models.onnx_layout import numel

# type: (field that holds its entries when not raw, entries of that field for one of the tensor)
FIELDS: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1), TensorProto.COMPLEX64: ("float_data", 2), TensorProto.DOUBLE: ("double_data", 1),
    TensorProto.COMPLEX128: ("double_data", 2), TensorProto.INT64: ("int64_data", 1), TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1), TensorProto.STRING: ("string_data", 1),
}  # fmt: skip
DIMS = 64

Bytes = Callable[[str], Any]  # a location -> uint8 tensor of that file's bytes


def beside(folder: Path, allowed: bool = True) -> Bytes:
    """Files in the folder of a model, mapped; of a path on one's own machine."""

    def read(location: str) -> Tensor:
        file = folder / location
        if not allowed or not file.is_file():
            raise LoadError(
                say("its weights lie in {file}, which is not there; open or send both, in one zip", file=location[:80])
            )
        if file.is_symlink() or not file.resolve().is_relative_to(folder.resolve()):
            raise LoadError(say("its weights lie in {file}, which is a link; refused", file=location[:80]))
        return torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)

    return read


def location_of(tensor: onnx.TensorProto) -> tuple[str, int, int | None]:
    """(file, offset, bytes or None) of external data. Raises :class:`LoadError` for a place outside of the model's folder."""
    rows = {row.key: row.value for row in tensor.external_data}
    location = rows.get("location", "")
    parts = PurePosixPath(location.replace("\\", "/"))
    if (
        not location
        or parts.is_absolute()
        or ".." in parts.parts
        or ":" in location
        or "\0" in location
        or len(location) > 400
    ):
        raise LoadError(
            say(
                "the data of {name} would lie at {place!r}, outside of its folder; refused",
                name=tensor.name[:80],
                place=location[:80],
            )
        )
    try:
        offset, length = int(rows.get("offset") or 0), rows.get("length")
        size = None if length in (None, "") else int(str(length))
    except ValueError:
        raise LoadError(say("{name}: the place of its data is malformed", name=tensor.name[:80])) from None
    if offset < 0 or size is not None and size < 0:
        raise LoadError(say("{name}: the place of its data is malformed", name=tensor.name[:80]))
    return str(parts), offset, size


def check(tensor: onnx.TensorProto) -> None:
    """Its entries are as many as its shape says. Raises :class:`LoadError`."""
    name, shape = tensor.name[:80], tuple(tensor.dims)
    if len(shape) > DIMS or any(d < 0 for d in shape):
        raise LoadError(say("{name}: shape {shape}; accepted: sizes from 0", name=name, shape=str(shape)[:80]))
    n = numel(shape)
    if tensor.HasField("raw_data"):
        bits = _bits(tensor)
        room: int = len(tensor.raw_data)
        if -(-n * bits // 8) != room:
            raise LoadError(
                say(
                    "{name}: {shape} of {dtype} in {size:,} bytes",
                    name=name,
                    shape=str(shape)[:80],
                    dtype=_called(tensor),
                    size=room,
                )
            )
        return
    field, each = FIELDS.get(tensor.data_type, ("int32_data", 1))
    held = len(getattr(tensor, field))
    wanted = n * each if tensor.data_type in FIELDS or _bits(tensor) >= 8 else -(-n * _bits(tensor) // 8)
    if held != wanted:
        raise LoadError(
            say(
                "{name}: {shape} of {dtype} in {size:,} entries",
                name=name,
                shape=str(shape)[:80],
                dtype=_called(tensor),
                size=held,
            )
        )


def _called(tensor: onnx.TensorProto) -> str:
    try:
        return str(TensorProto.DataType.Name(tensor.data_type))
    except ValueError:
        return str(tensor.data_type)


def _bits(tensor: onnx.TensorProto) -> int:
    called = _called(tensor)
    if called in ("INT4", "UINT4", "FLOAT4E2M1"):
        return 4
    if called in ("INT2", "UINT2"):
        return 2
    if called == "STRING":
        raise LoadError(say("{name}: texts as raw bytes; refused", name=tensor.name[:80]))
    try:
        return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, ValueError, TypeError):
        raise LoadError(say("{name}: of no known type ({dtype})", name=tensor.name[:80], dtype=called)) from None


def fetch(tensor: onnx.TensorProto, files: dict[str, Tensor], read: Bytes) -> Tensor | None:
    """Take external data in, as bytes. Returns those of a floating tensor, mapped where the file allows it, else puts them into ``tensor``."""
    place, offset, size = location_of(tensor)
    if place not in files:
        files[place] = read(place)
    if any(d < 0 for d in tensor.dims) or len(tensor.dims) > DIMS:
        raise LoadError(
            say(
                "{name}: shape {shape}; accepted: sizes from 0",
                name=tensor.name[:80],
                shape=str(tuple(tensor.dims))[:80],
            )
        )
    wanted = -(-numel(tensor.dims) * _bits(tensor) // 8)
    room = len(files[place]) - offset
    if (size is not None and size != wanted) or wanted > room:
        raise LoadError(
            say(
                "{name}: {shape} of {dtype} in {size:,} bytes",
                name=tensor.name[:80],
                shape=str(tuple(tensor.dims))[:80],
                dtype=_called(tensor),
                size=max(0, room if size is None else min(size, room)),
            )
        )
    data = files[place][offset : offset + wanted]
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    dtype = FLOATS.get(tensor.data_type)
    if dtype is None:
        tensor.raw_data = data.numpy().tobytes()
        return None
    data = data if not data.storage_offset() % dtype.itemsize else data.clone()
    return data.view(dtype).reshape(tuple(tensor.dims))


def value_of(tensor: onnx.TensorProto) -> Tensor:
    """A floating tensor's entries, in memory of their own."""
    dtype = FLOATS[tensor.data_type]
    if tensor.HasField("raw_data"):
        data = (
            torch.frombuffer(bytearray(tensor.raw_data), dtype=dtype)
            if tensor.raw_data
            else torch.empty(0, dtype=dtype)
        )
        return data.reshape(tuple(tensor.dims))
    found = numpy_helper.to_array(tensor)
    if dtype == torch.bfloat16:
        return (
            torch.from_numpy(np.ascontiguousarray(found).view(np.int16))
            .view(torch.bfloat16)
            .reshape(tuple(tensor.dims))
        )
    return torch.from_numpy(np.array(found, order="C"))


def every(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in a model."""
    graphs: list[Any] = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        else:
            graphs += [one.g for one in graph.attribute_proto if one.HasField("g")]
            yield from (one.t for one in graph.attribute_proto if one.HasField("t"))
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in [
                    *attribute.sparse_tensors,
                    *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                ]:
                    yield from (sparse.values, sparse.indices)
                graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
