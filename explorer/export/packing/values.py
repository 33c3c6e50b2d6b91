"""What the survivors are: their floats, codes of a uniform grid with its scales, or codes of tables of values.

A coding is taken only where it restores every bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import LoadError
from ...core.message import say
from .slices import Slices
from .streams import WIDEST, Stream, decode, encode

KINDS = ("raw", "uniform", "table")


@dataclass(frozen=True)
class Grid:
    """A uniform grid: value = (code - zero_point) * scale, code low ... low + 2**bits - 1; one scale a slice.

    scale: [slices] float32. zero_point: [slices] int32.
    """

    bits: int
    low: int
    scale: np.ndarray
    zero_point: np.ndarray


@dataclass(frozen=True)
class Coded:
    """row: what the header says; streams, in order."""

    row: dict[str, Any]
    streams: tuple[Stream, ...]

    @property
    def size(self) -> int:
        return sum(len(stream.data) for stream in self.streams)


def bits_of(tensor: Tensor) -> np.ndarray:
    """[numel] unsigned integers with the bits of a tensor's entries."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    size = tensor.element_size()
    if size == 1:
        return flat.view(torch.uint8).numpy()
    return flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[size]).numpy().view(f"<u{size}")


def from_bits(found: np.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`bits_of`."""
    signed = np.ascontiguousarray(found).view(found.dtype.str.replace("u", "i")) if found.dtype.itemsize > 1 else found
    return torch.from_numpy(signed.copy()).view(dtype).reshape(shape)


def planes(found: np.ndarray) -> tuple[Stream, ...]:
    """First bytes of all values, then their second bytes ...: those of exponents repeat, those of rounded values are zero."""
    size = found.dtype.itemsize
    spread = found.astype(f"<u{size}").view(np.uint8).reshape(-1, size)
    return tuple(encode(np.ascontiguousarray(spread[:, i]), 8) for i in range(size))


def from_planes(streams: list[Stream], count: int, size: int, where: str) -> np.ndarray:
    """The inverse of :func:`planes`."""
    if len(streams) != size or any(stream.bits != 8 or stream.count != count for stream in streams):
        raise LoadError(say("{where}: not the bytes of {count} values", where=where, count=count))
    spread = np.stack([decode(stream, where).astype(np.uint8) for stream in streams], 1)
    return np.ascontiguousarray(spread).view(f"<u{size}").reshape(-1)


def candidates(found: np.ndarray, where: np.ndarray, dtype: torch.dtype, slices: Slices, grid: Grid | None) -> Iterator[Coded]:
    """Every coding of the survivors' bits ``found`` at flat positions ``where``."""
    yield Coded({"values": "raw"}, planes(found))
    if not len(found) or found.dtype.itemsize > 4:
        return
    if grid is not None:
        made = _uniform(found, where, dtype, slices, grid)
        if made is not None:
            yield made
    whole = Slices(slices.left)
    for one in (whole,) if slices.axis is None else (whole, slices):
        made = _table(found, where, one)
        if made is not None:
            yield made


def _uniform(found: np.ndarray, where: np.ndarray, dtype: torch.dtype, slices: Slices, grid: Grid) -> Coded | None:
    mine = slices.of(where)
    floats = from_bits(found, dtype, (-1,)).float().numpy()
    codes = np.rint(floats / grid.scale[mine]).astype(np.int64) + grid.zero_point[mine] - grid.low
    if codes.min() < 0 or codes.max() >> grid.bits:
        return None
    if not np.array_equal(bits_of(_on_grid(codes, mine, grid, dtype)), found):
        return None
    row: dict[str, Any] = {"values": "uniform", "slices": slices.row, "low": grid.low, "zeros": int(bool(grid.zero_point.any()))}
    zeros = (encode(grid.zero_point - grid.low, grid.bits),) if row["zeros"] else ()
    return Coded(row, (encode(codes, grid.bits), *planes(grid.scale.astype("<f4").view("<u4")), *zeros))


def _on_grid(codes: np.ndarray, mine: np.ndarray, grid: Grid, dtype: torch.dtype) -> Tensor:
    """As fake quantization computes it, so that every bit agrees."""
    steps = (codes + grid.low - grid.zero_point[mine]).astype(np.float32)
    return torch.from_numpy(steps).mul_(torch.from_numpy(grid.scale[mine])).to(dtype)


def _table(found: np.ndarray, where: np.ndarray, slices: Slices) -> Coded | None:
    """Distinct values, a table a slice, and indices into it."""
    mine = slices.of(where)
    keys, codes = np.unique(mine.astype(np.uint64) << np.uint64(32) | found.astype(np.uint64), return_inverse=True)
    if len(keys) > len(found) // 2 or len(keys) > 1 << 20:
        return None
    sizes = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=slices.count)
    if sizes.max() > 1 << WIDEST:
        return None
    starts = np.cumsum(sizes) - sizes
    bits = max(1, int(sizes.max() - 1).bit_length())
    values = (keys & np.uint64(0xFFFFFFFF)).astype(found.dtype)
    lengths = () if slices.axis is None else (encode(np.minimum(sizes, 0xFFFF), WIDEST),)
    row = {"values": "table", "slices": slices.row, "entries": len(keys)}
    return Coded(row, (encode(codes - starts[mine], bits), *planes(values), *lengths))


def restore(row: dict[str, Any], streams: list[Stream], where: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> np.ndarray:
    """Bits of the values at flat positions ``where``. Raises :class:`LoadError`."""
    size, kind = dtype.itemsize, row.get("values")
    if kind == "raw":
        return from_planes(streams, len(where), size, name)
    if kind not in KINDS or size > 4 or not streams or streams[0].count != len(where):
        raise LoadError(say("{where}: no valid values ({row})", where=name, row=str(row)[:80]))
    slices = Slices.read(row.get("slices"), shape, name)
    codes, mine = decode(streams[0], name).astype(np.int64), slices.of(where)
    if kind == "uniform":
        low, zeros = row.get("low"), row.get("zeros")
        if type(low) is not int or abs(low) > 1 << WIDEST or zeros not in (0, 1) or len(streams) != 5 + zeros:
            raise LoadError(say("{where}: no valid grid ({row})", where=name, row=str(row)[:80]))
        scale = from_planes(streams[1:5], slices.count, 4, name).view("<f4")
        zero = decode(streams[5], name).astype(np.int64) + low if zeros else np.zeros(slices.count, np.int64)
        if len(zero) != slices.count:
            raise LoadError(say("{where}: not the bytes of {count} values", where=name, count=slices.count))
        return bits_of(_on_grid(codes, mine, Grid(streams[0].bits, low, scale, zero), dtype))
    entries, given = row.get("entries"), streams[1 + size :]
    if type(entries) is not int or len(given) != (slices.axis is not None):
        raise LoadError(say("{where}: no valid table ({row})", where=name, row=str(row)[:80]))
    values = from_planes(streams[1 : 1 + size], entries, size, name)
    sizes = decode(given[0], name).astype(np.int64) if given else np.array([entries])
    if len(sizes) != slices.count or sizes.sum() != entries or (codes >= sizes[mine]).any():
        raise LoadError(say("{where}: a code lies outside of its table of {entries}", where=name, entries=entries))
    return values[codes + (np.cumsum(sizes) - sizes)[mine]]
