"""A hostile or damaged packed file takes nothing, and is refused in one line."""

from __future__ import annotations

import contextlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import explorer
from explorer.core.errors import LoadError
from explorer.export.packing.container import MAGIC, START, dumps, loads
from explorer.export.packing.slices import Slices
from explorer.export.packing.values import Hint


def _file(header: Any, body: bytes = b"", check: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = coder.compress(text) + coder.flush()
    whole = stored + body
    return START.pack(MAGIC, len(stored), len(text), zlib.crc32(whole) if check is None else check) + whole


def _head(**tensors: Any) -> dict[str, Any]:
    return {"format": "compression-explorer-packed", "version": 1, "metadata": {}, "tensors": tensors}


def _row(**changes: Any) -> dict[str, Any]:
    plain = {"shape": [4], "dtype": "uint8", "index": "dense", "values": "raw", "streams": [["bytes", "raw", 8, 4, 4]]}
    return plain | changes


SCALED = {"values": "scaled", "dtype": "float32", "slices": {}, "low": -1}
TABLE = {"values": "table", "slices": {}, "entries": 2}
FIVE = [["bytes", "raw", 8, 4, 4], *[["bytes", "raw", 8, 1, 1]] * 4]
BYTE = ["bytes", "raw", 8, 1, 1]
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "another file": b"PK\3\4" + bytes(40),
    "a header beyond the end": START.pack(MAGIC, 1 << 31, 10, 0) + b"x",
    "a header that inflates": START.pack(MAGIC, 20, (1 << 32) - 1, 0) + bytes(20),
    "a wrong checksum": _file(_head(a=_row()), bytes(4), check=1),
    "no JSON": _file(b"{"),
    "deep JSON": _file(b"[" * 100_000),
    "a list": _file([]),
    "another version": _file(_head() | {"version": 2}),
    "no tensors": _file(_head() | {"tensors": []}),
    "a tensor that is none": _file(_head(a=7)),
    "a huge tensor": _file(_head(a=_row(shape=[1 << 30, 1 << 30]))),
    "a bomb of zeros": _file(_head(a=_row(shape=[1 << 29], index="relative", streams=[["bits", "raw", 3, 0, 0], ["bytes", "raw", 8, 0, 0]]))),
    "many tensors": _file(_head(**{f"t{i}": _row(shape=[1 << 24]) for i in range(8)})),
    "a negative size": _file(_head(a=_row(shape=[-4]))),
    "a size that is a text": _file(_head(a=_row(shape=["4"]))),
    "an unknown dtype": _file(_head(a=_row(dtype="complex64")), bytes(4)),
    "an unknown index": _file(_head(a=_row(index="csr")), bytes(4)),
    "an unknown coder": _file(_head(a=_row(streams=[["bytes", "pickle", 8, 4, 4]])), bytes(4)),
    "too few bytes": _file(_head(a=_row()), bytes(3)),
    "too many bytes": _file(_head(a=_row()), bytes(5)),
    "bytes in the wrong place": _file(_head(a=_row(streams=[["bytes", "raw", 8, 4, -4]]))),
    "a count that lies": _file(_head(a=_row(streams=[["bytes", "raw", 8, 5, 5]])), bytes(5)),
    "a stream too long": _file(_head(a=_row(streams=[["bytes", "zlib", 8, 1 << 40, 4]])), bytes(4)),
    "a bool of 7": _file(_head(a=_row(dtype="bool")), b"\1\0\7\1"),
    "an index beyond the end": _file(_head(a=_row(index="relative", streams=[BYTE, BYTE])), b"\x09\1"),
    "a bitmap with bits beyond the end": _file(_head(a=_row(index="bitmap", streams=[BYTE, BYTE])), b"\x01\1"),
    "a bitmap of another length": _file(_head(a=_row(index="bitmap", streams=[["bytes", "raw", 8, 2, 2], BYTE])), b"\x80\0\1"),
    "no streams": _file(_head(a=_row(index="bitmap", streams=[]))),
    "fewer values than survivors": _file(_head(a=_row(index="bitmap", streams=[BYTE, BYTE])), b"\xf0\1"),
    "a symbol too wide": _file(_head(a=_row(streams=[["bytes", "raw", 3, 4, 4]])), b"\xff" * 4),
    "steps without scales": _file(_head(a=_row(**SCALED)), bytes(4)),
    "steps from an odd number": _file(_head(a=_row(**SCALED | {"low": 1e9}, streams=FIVE)), bytes(8)),
    "steps with two meanings": _file(_head(a=_row(**SCALED | {"steps": 1}, streams=FIVE)), bytes(8)),
    "steps from no table": _file(_head(a=_row(**SCALED | {"low": None, "steps": 3}, streams=FIVE)), bytes(8)),
    "slices that are a list": _file(_head(a=_row(**TABLE | {"slices": [0]})), bytes(4)),
    "slices along no axis": _file(_head(a=_row(**TABLE | {"slices": {"axis": 1}})), bytes(4)),
    "slices of an odd kind": _file(_head(a=_row(**TABLE | {"slices": {"axis": 0, "shape": 9}})), bytes(4)),
    "parts that do not divide": _file(_head(a=_row(**TABLE | {"slices": {"axis": 0, "parts": 3}})), bytes(4)),
    "a group of none": _file(_head(a=_row(**TABLE | {"slices": {"axis": 0, "size": 0}})), bytes(4)),
    "a code outside of its table": _file(_head(a=_row(**TABLE, streams=[["bytes", "raw", 8, 4, 4], ["bytes", "raw", 8, 2, 2]])), b"\0\1\2\0\5\6"),
    "a table that counts too much": _file(_head(a=_row(**TABLE | {"entries": 1 << 40}, streams=[["bytes", "raw", 8, 4, 4], BYTE])), bytes(5)),
    "damaged Huffman codes": _file(_head(a=_row(streams=[["bytes", "zlib", 8, 4, 4]])), b"\xff" * 4),
    "damaged LZMA": _file(_head(a=_row(streams=[["bytes", "lzma", 8, 4, 4]])), b"\xff" * 4),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.packed"
    path.write_bytes(HOSTILE[case])
    for load in (explorer.load_packed, explorer.load_exported):
        with pytest.raises(LoadError, match=r"model\.packed") as caught:
            load(path)
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value) and "malformed" not in str(caught.value)


def test_the_honest_row_loads() -> None:
    assert loads(_file(_head(a=_row()), b"\1\2\3\4"))[0]["a"].tolist() == [1, 2, 3, 4]


def test_every_truncation_and_every_flipped_byte_is_refused() -> None:
    torch.manual_seed(0)
    values = torch.randn(12, 12).round() * (torch.rand(12, 12) < 0.3)
    whole = dumps({"a": values, "b": torch.arange(5)}, {"note": "x"}, {})
    for end in range(len(whole)):
        with pytest.raises(LoadError):
            loads(whole[:end])
    for at in range(len(whole)):
        with pytest.raises(LoadError):
            loads(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_body_breaks_the_reader_whatever_its_checksum_says(data: st.DataObject) -> None:
    """Random bytes under an honest header with a right checksum: an answer or a LoadError, nothing else."""
    torch.manual_seed(1)
    values = torch.randn(6, 8).mul(3).round() * (torch.rand(6, 8) < 0.5)
    scale = torch.rand(6)
    how = Hint(Slices((6, 8), 0), values.reshape(-1).numpy(), scale.numpy())
    values = values * scale[:, None]
    whole = dumps({"a": values}, {}, {"a": how} if data.draw(st.booleans()) else {})
    _, stored, size, _ = START.unpack_from(whole)
    body = bytearray(whole[START.size :])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(stored, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(LoadError):
        loads(START.pack(MAGIC, stored, size, zlib.crc32(bytes(body))) + bytes(body))
