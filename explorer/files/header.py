"""The header of a safetensors file: names, dtypes, shapes and places, without reading a weight.

8 bytes of length (little endian), then that many bytes of JSON, then the data.
Source: github.com/huggingface/safetensors, format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..core.errors import LoadError
from ..core.message import Message, say
from .limits import Limits, check_size, parse_json

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "U16": 16,
    "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
FLOATING = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})


@dataclass(frozen=True)
class Entry:
    """One tensor. start, stop: bytes from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """Of one file. entries: {name: Entry} in the order of their places. metadata: texts."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]


def read_header(path: Path, limits: Limits) -> Header:
    """The checked header. Raises :class:`LoadError` for a file that is cut short, overlaps, or states the impossible."""
    size = check_size(path, limits.file)
    with path.open("rb") as file:
        return parse_header(file, size, path, limits)


def parse_header(file: BinaryIO, size: int, path: object, limits: Limits) -> Header:
    """As :func:`read_header`, of an open file of ``size`` bytes."""

    def refuse(what: Message) -> LoadError:
        return LoadError(say("{path}: no usable safetensors file: {what}", path=path, what=what))

    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > size - 8:
        raise refuse(say("it is cut short; accepted: the whole file, saved or downloaded again"))
    if length > limits.header:
        raise refuse(say("a header of {length:,} bytes; accepted: at most {most:,}", length=length, most=limits.header))
    rows = parse_json(file.read(length), str(path), limits)
    if not isinstance(rows, dict):
        raise refuse(say("its header is no JSON object; accepted: the whole file, saved or downloaded again"))
    metadata = rows.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise refuse(say("its metadata holds something else than texts"))
    if len(rows) > limits.tensors:
        raise refuse(say("{count:,} tensors; accepted: at most {most:,}", count=len(rows), most=limits.tensors))
    found = sorted(
        (_entry(name, row, 8 + length, refuse) for name, row in rows.items()), key=lambda e: (e.start, e.stop)
    )
    at = 8 + length
    for entry in found:
        if entry.start != at:
            if entry.start < at:
                raise refuse(say("{name} overlaps another tensor", name=entry.name[:80]))
            raise refuse(say("there is a hole before {name}", name=entry.name[:80]))
        at = entry.stop
    if at != size:
        raise refuse(
            say(
                "its tensors end at byte {end:,}, the file at {size:,}: it is cut short or holds something else; "
                "accepted: the whole file, saved or downloaded again",
                end=at,
                size=size,
            )
        )
    return Header({entry.name: entry for entry in found}, metadata)


def _entry(name: str, row: Any, base: int, refuse: Any) -> Entry:
    shape: Any = row.get("shape") if isinstance(row, dict) else None
    place: Any = row.get("data_offsets") if isinstance(row, dict) else None
    dtype = row.get("dtype") if isinstance(row, dict) else None
    whole = all(isinstance(v, list) and all(type(n) is int and 0 <= n < 2**63 for n in v) for v in (shape, place))
    if not whole or len(place) != 2 or len(shape) > 64 or not isinstance(dtype, str):
        raise refuse(say("{name}: its row is malformed", name=name[:80]))
    if dtype not in BITS:
        raise refuse(
            say(
                "{name}: dtype {dtype}; accepted: {accepted}",
                name=name[:80],
                dtype=dtype[:20],
                accepted=", ".join(BITS),
            )
        )
    start, stop = place
    if math.prod(shape) * BITS[dtype] // 8 != stop - start:
        raise refuse(
            say(
                "{name}: {shape} of {dtype} in {size:,} bytes",
                name=name[:80],
                shape=tuple(shape),
                dtype=dtype,
                size=stop - start,
            )
        )
    return Entry(name, dtype, tuple(shape), base + start, base + stop)
