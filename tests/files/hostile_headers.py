"""Safetensors files whose headers state what cannot be."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from safetensors.torch import save


def header(rows: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of any header."""
    text = json.dumps(rows).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def row(shape: list[Any], start: int, stop: int, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


HEADERS: dict[str, bytes] = {
    "empty header": struct.pack("<Q", 0) + b"{}",
    "2^63 elements": header({"a": row([2**63 - 1, 2], 0, 8)}, bytes(8)),
    "2^64 overflow": header({"a": row([2**32, 2**32, 4], 0, 0)}),
    "negative shape": header({"a": row([-1, -2], 0, 8)}, bytes(8)),
    "shape of texts": header({"a": row(["2"], 0, 8)}, bytes(8)),
    "shape of booleans": header({"a": row([True, True], 0, 4)}, bytes(4)),
    "overlapping": header({"a": row([2], 0, 8), "b": row([2], 4, 12)}, bytes(12)),
    "a hole": header({"a": row([2], 0, 8), "b": row([2], 12, 20)}, bytes(20)),
    "beyond the end": header({"a": row([200], 0, 800)}, bytes(8)),
    "bytes beside": header({"a": row([2], 0, 8)}, bytes(5000)),
    "offsets reversed": header({"a": row([2], 8, 0)}, bytes(8)),
    "three offsets": header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}}, bytes(8)),
    "unknown dtype": header({"a": row([2], 0, 8, "PICKLE")}, bytes(8)),
    "dtype is a list": header({"a": row([2], 0, 8, ["F32"])}, bytes(8)),
    "header longer than the file": header({"a": row([2], 0, 8)}, bytes(8), 1 << 39),
    "header of 2^63": header({"a": row([2], 0, 8)}, bytes(8), 2**63),
    "deep": struct.pack("<Q", 200_000) + b"{\"a\":" * 20_000 + b"[" * 100_000,
    "deep but closed": header({"__metadata__": {}, "a": json.loads("[" * 80 + "]" * 80)}),
    "metadata of lists": header({"__metadata__": {"a": [1]}, "a": row([2], 0, 8)}, bytes(8)),
    "no object": struct.pack("<Q", 8) + b"{\"a\":1} " + bytes(8),
    "dunder name": save({"__class__.x": torch.zeros(2)}),
    "empty atom": save({"a..b": torch.zeros(2)}),
    "a tensor that is a module": save({"a": torch.zeros(2), "a.b": torch.zeros(2)}),
    "over a method": save({"forward": torch.zeros(2)}),
    "a level over a method": save({"parameters.x": torch.zeros(2)}),
    "no tensors": save({}),
}  # fmt: skip
NAMES_ALONE = ("dunder name", "empty atom", "a tensor that is a module", "over a method", "a level over a method", "no tensors")
"""Of these the name alone is impossible for a module; where none is built they may be read."""
