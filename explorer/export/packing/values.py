"""What the survivors are: their floats, codes of a table of values, or codes of steps that a scale multiplies.

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

KINDS = ("raw", "scaled", "table")


@dataclass(frozen=True)
class Hint:
    """How a tensor was quantized: value = step * scale of its slice; without steps only the slices are known.

    steps: [numel] float32. scale: [slices] float32.
    """

    slices: Slices
    steps: np.ndarray | None = None
    scale: np.ndarray | None = None


@dataclass(frozen=True)
class Coded:
    """row: what the header says; streams, in order."""

    row: dict[str, Any]
    streams: tuple[Stream, ...]

    @property
    def cost(self) -> int:
        """Bytes of the streams, and about what their rows add to the header, which is compressed."""
        return sum(len(stream.data) + 6 for stream in self.streams)


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


def smallest(found: np.ndarray, where: np.ndarray, dtype: torch.dtype, hint: Hint) -> Coded:
    """The cheapest coding of the bits ``found`` of the entries at flat positions ``where``."""
    return min(_candidates(found, where, dtype, hint), key=lambda coded: coded.cost)


def _candidates(found: np.ndarray, where: np.ndarray, dtype: torch.dtype, hint: Hint) -> Iterator[Coded]:
    tables = [Slices(hint.slices.shape)] + ([hint.slices] if hint.slices.axis is not None else [])
    made: list[Coded | None] = []
    if len(found) and found.dtype.itemsize <= 4:
        made = [_scaled(found, where, dtype, hint), *(_table(found, where, one) for one in tables)]
    yield from (one for one in made if one is not None)
    if not any(made) or len(found) < 1000:  # codes are smaller than what they stand for
        yield Coded({"values": "raw"}, planes(found))


def _scaled(found: np.ndarray, where: np.ndarray, dtype: torch.dtype, hint: Hint) -> Coded | None:
    """Codes of steps, the same ones for all slices, and a scale a slice; consecutive whole steps need no table."""
    if hint.steps is None or hint.scale is None:
        return None
    mine, steps = hint.slices.of(where), hint.steps[where]
    if not np.array_equal(bits_of(_product(steps, hint.scale[mine], dtype)), found):
        return None
    table, codes = np.unique(steps, return_inverse=True)
    row: dict[str, Any] = {"values": "scaled", "slices": hint.slices.row}
    scales = planes(np.ascontiguousarray(hint.scale, "<f4").view("<u4"))
    low, reach = float(table[0]), float(table[-1] - table[0])
    if (table == np.round(table)).all() and reach < 4 * len(table) and abs(low) < 1 << WIDEST:
        bits = max(1, int(reach).bit_length())
        return Coded(row | {"low": int(low)}, (encode((steps - low).astype(np.int64), bits), *scales))
    if len(table) > 1 << WIDEST:
        return None
    bits = max(1, (len(table) - 1).bit_length())
    return Coded(row | {"steps": len(table)}, (encode(codes, bits), *scales, *planes(table.astype("<f4").view("<u4"))))


def _product(steps: np.ndarray, scale: np.ndarray, dtype: torch.dtype) -> Tensor:
    """In float32 and then rounded, as fake quantization computes it, so that every bit agrees; no zero is negative."""
    return (
        torch.from_numpy(np.ascontiguousarray(steps))
        .mul(torch.from_numpy(np.ascontiguousarray(scale)))
        .add_(0.0)
        .to(dtype)
    )


def _table(found: np.ndarray, where: np.ndarray, slices: Slices) -> Coded | None:
    """Distinct values, a table a slice, and indices into it."""
    mine = slices.of(where)
    keys, codes = np.unique(mine.astype(np.uint64) << np.uint64(32) | found.astype(np.uint64), return_inverse=True)
    if len(keys) > max(len(found) // 2, 1) or len(keys) > 1 << 20:
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


def restore(
    row: dict[str, Any], streams: list[Stream], where: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype, name: str
) -> np.ndarray:
    """Bits of the values at flat positions ``where``. Raises :class:`LoadError`."""
    size, kind = dtype.itemsize, row.get("values")
    if kind == "raw":
        return from_planes(streams, len(where), size, name)
    if kind not in KINDS or size > 4 or not streams or streams[0].count != len(where):
        raise LoadError(say("{where}: no valid values ({row})", where=name, row=str(row)[:80]))
    slices = Slices.read(row.get("slices"), shape, name)
    codes, mine = decode(streams[0], name).astype(np.int64), slices.of(where)
    if kind == "scaled":
        scale = from_planes(streams[1:5], slices.count, 4, name).view("<f4")
        return bits_of(_product(_steps(row, codes, streams[5:], name), scale[mine], dtype))
    entries, given = row.get("entries"), streams[1 + size :]
    if type(entries) is not int or len(given) != (slices.axis is not None):
        raise LoadError(say("{where}: no valid table ({row})", where=name, row=str(row)[:80]))
    values = from_planes(streams[1 : 1 + size], entries, size, name)
    sizes = decode(given[0], name).astype(np.int64) if given else np.array([entries])
    if len(sizes) != slices.count or sizes.sum() != entries or (codes >= sizes[mine]).any():
        raise LoadError(say("{where}: a code lies outside of its table of {entries}", where=name, entries=entries))
    return values[codes + (np.cumsum(sizes) - sizes)[mine]]


def _steps(row: dict[str, Any], codes: np.ndarray, streams: list[Stream], name: str) -> np.ndarray:
    low, entries = row.get("low"), row.get("steps")
    if type(low) is int and abs(low) < 1 << WIDEST and entries is None and not streams:
        return (codes + low).astype(np.float32)
    if type(entries) is not int or low is not None:
        raise LoadError(say("{where}: no valid steps ({row})", where=name, row=str(row)[:80]))
    table = from_planes(streams, entries, 4, name).view("<f4")
    if (codes >= entries).any():
        raise LoadError(say("{where}: a code lies outside of its table of {entries}", where=name, entries=entries))
    out: np.ndarray = table[codes]
    return out
