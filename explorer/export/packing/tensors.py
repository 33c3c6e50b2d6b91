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
from .values import Coded, Hint, bits_of, from_bits

DIMS = 16
DENSE = 0.25  # share of survivors below which codes for all entries are not tried


def pack(tensor: Tensor, hint: Hint | None = None) -> Coded:
    """The smallest exact coding: positions of the non-zero entries, and their values.

    An entry is zero when all its bits are, so that a negative zero survives. hint: how the tensor was quantized.
    """
    found = bits_of(tensor)
    hint = hint or Hint(Slices(tuple(tensor.shape)))
    alive = found != 0
    where = np.flatnonzero(alive)
    options: list[tuple[str, tuple[Stream, ...], Coded]] = []
    if len(where) > DENSE * len(found) or not len(found):
        every = np.arange(len(found))
        options.append(("dense", (), values.smallest(found, every, tensor.dtype, hint)))
    if len(where) < len(found):
        kind, index = indices.smallest(alive)
        options.append((kind, (index,), values.smallest(found[where], where, tensor.dtype, hint)))
    kind, first, coded = min(options, key=lambda one: one[2].cost + sum(len(stream.data) + 6 for stream in one[1]))
    row = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."), "index": kind} | coded.row
    return Coded(row, (*first, *coded.streams))


def unpack(row: dict[str, Any], streams: list[Stream], name: str) -> Tensor:
    """The tensor of a checked row. Raises :class:`LoadError`."""
    shape, dtype = shape_of(row, name)
    kind = row.get("index")
    if kind not in indices.KINDS:
        raise LoadError(
            say(
                "{where}: index {kind}; accepted: {accepted}",
                where=name,
                kind=str(kind)[:40],
                accepted=", ".join(indices.KINDS),
            )
        )
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
        raise LoadError(
            say(
                "{where}: dtype {dtype}; accepted: {accepted}",
                where=name,
                dtype=str(row.get("dtype"))[:40],
                accepted=", ".join(DTYPES),
            )
        )
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
