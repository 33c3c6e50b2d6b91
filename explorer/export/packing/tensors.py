"""One tensor -> the smallest of its codings, and back, every bit as it was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import LoadError
from ...core.message import say
from ..rebuild import DTYPES
from . import indices, values
from .slices import Slices
from .streams import Stream, checked_row
from .values import Coded, Grid, bits_of, from_bits

DIMS = 16


def pack(tensor: Tensor, slices: Slices | None = None, grid: Grid | None = None) -> Coded:
    """The smallest exact coding: positions of the non-zero entries, and their values.

    An entry is zero when all its bits are, so that a negative zero survives. slices, grid: how the tensor was quantized.
    """
    found = bits_of(tensor)
    slices = slices or Slices(tuple(tensor.shape))
    alive = found != 0
    best: Coded | None = None
    for kind, stream in indices.candidates(alive):
        where = np.arange(len(found)) if kind == "dense" else np.flatnonzero(alive)
        for coded in values.candidates(found[where], where, tensor.dtype, slices, grid):
            row = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."), "index": kind} | coded.row
            whole = Coded(row, ((stream,) if stream is not None else ()) + coded.streams)
            if best is None or _cost(whole) < _cost(best):
                best = whole
    assert best is not None
    return best


def _cost(coded: Coded) -> int:
    """Bytes of the streams, and about what a row adds to the header, which is compressed."""
    return coded.size + 6 * len(coded.streams)


def unpack(row: dict[str, Any], streams: list[Stream], name: str) -> Tensor:
    """The tensor of a checked row. Raises :class:`LoadError`."""
    shape, dtype = shape_of(row, name)
    kind = row.get("index")
    if kind not in indices.KINDS:
        raise LoadError(say("{where}: index {kind}; accepted: {accepted}", where=name, kind=str(kind)[:40], accepted=", ".join(indices.KINDS)))
    index = None if kind == "dense" else (streams or [None]).pop(0)  # type: ignore[list-item]
    numel = math.prod(shape)
    where = indices.positions_of(kind, index, numel, name)
    out = np.zeros(numel, f"<u{dtype.itemsize}")
    out[where] = values.restore(row, streams, where, shape, dtype, name)
    if dtype == torch.bool and out.max(initial=0) > 1:
        raise LoadError(say("{where}: a bool that is neither 0 nor 1", where=name))
    return from_bits(out, dtype, shape)


def shape_of(row: dict[str, Any], name: str) -> tuple[tuple[int, ...], torch.dtype]:
    """(shape, dtype) that a row states. Raises :class:`LoadError`."""
    shape, dtype = row.get("shape"), DTYPES.get(str(row.get("dtype")))
    if not isinstance(shape, list) or len(shape) > DIMS or any(type(n) is not int or not 0 <= n < 2**31 for n in shape):
        raise LoadError(say("{where}: shape {shape}; accepted: a list of sizes", where=name, shape=str(shape)[:80]))
    if dtype is None:
        raise LoadError(say("{where}: dtype {dtype}; accepted: {accepted}", where=name, dtype=str(row.get("dtype"))[:40], accepted=", ".join(DTYPES)))
    return tuple(shape), dtype


def bytes_of(row: dict[str, Any], name: str) -> int:
    """Bytes of the tensor that a row restores to."""
    shape, dtype = shape_of(row, name)
    return math.prod(shape) * dtype.itemsize


def rows_of(row: dict[str, Any], name: str) -> list[tuple[str, str, int, int, int]]:
    """The stream rows of a tensor, checked; none holds more symbols than twice the tensor's entries and tables may need."""
    numel = math.prod(shape_of(row, name)[0])
    listed = row.get("streams")
    if not isinstance(listed, list) or len(listed) > 16:
        raise LoadError(say("{where}: no list of streams", where=name))
    return [checked_row(one, 2 * numel + (1 << 20), name) for one in listed]
