"""One file: magic, a compressed JSON header, then the streams of every tensor in the header's order. No pickle.

8 bytes    b"explpack"
4 + 4      bytes of the header as stored, and of its JSON (little-endian)
4          CRC-32 of everything that follows
header     raw DEFLATE of {"format", "version", "metadata", "tensors": {name: {"shape", "dtype", "index", "values",
           "streams": [[layout, coder, bits, count, bytes], ...], ...}}}
streams    back to back
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...core.errors import LoadError
from ...core.message import say
from ..names import MAGIC
from .streams import Stream, expand
from .tensors import bytes_of, pack, rows_of, unpack
from .values import Hint

FORMAT, VERSION = "compression-explorer-packed", 1
START = struct.Struct("<8sIII")
HEADER_LIMIT = 64 << 20
LIMIT = 4 << 30  # bytes that a file may restore to
RATIO, FLOOR = 10_000, 64 << 20  # and times its own size, where that is more than the floor


def dumps(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], how: Mapping[str, Hint]) -> bytes:
    """The file of named tensors. metadata: JSON values. how: {name: how it was quantized}."""
    rows: dict[str, Any] = {}
    blobs: list[bytes] = []
    for name, tensor in tensors.items():
        coded = pack(tensor, how.get(name))
        rows[name] = coded.row | {"streams": [stream.row for stream in coded.streams]}
        blobs += [stream.data for stream in coded.streams]
    header = {"format": FORMAT, "version": VERSION, "metadata": dict(metadata), "tensors": rows}
    text = json.dumps(header, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    deflated = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    stored = deflated.compress(text) + deflated.flush()
    body = b"".join([stored, *blobs])
    return START.pack(MAGIC, len(stored), len(text), zlib.crc32(body)) + body


def loads(data: bytes, most: int = LIMIT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, metadata) of a file, which may be a stranger's: sizes are checked before memory is taken.

    most: bytes that it may restore to. Raises :class:`LoadError` for a file that is truncated, damaged or made to take too much.
    """
    header, rest = _header(data)
    rows = header.get("tensors")
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise LoadError(say("its header lists no tensors"))
    total = sum(bytes_of(row, name[:100]) for name, row in rows.items())
    allowed = min(most, max(FLOOR, RATIO * len(data)))
    if total > allowed:
        raise LoadError(
            say("it would unpack to {total:,} bytes; accepted: at most {allowed:,}", total=total, allowed=allowed)
        )
    plans = {name: rows_of(row, name[:100]) for name, row in rows.items()}
    wanted = sum(row[4] for listed in plans.values() for row in listed)
    if wanted != len(rest):
        raise LoadError(
            say("its tensors need {wanted:,} bytes, the file holds {found:,}", wanted=wanted, found=len(rest))
        )
    out, start = {}, 0
    for name, listed in plans.items():
        streams = []
        for layout, coder, bits, count, size in listed:
            streams.append(Stream(layout, coder, bits, count, bytes(rest[start : start + size])))
            start += size
        out[name] = unpack(rows[name], streams, name[:100])
    metadata = header.get("metadata")
    return out, metadata if isinstance(metadata, dict) else {}


def _header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    if len(data) < START.size or data[:8] != MAGIC:
        raise LoadError(say("truncated, or no packed model"))
    _, stored, size, check = START.unpack_from(data)
    rest = memoryview(data)[START.size :]
    if stored > len(rest) or size > HEADER_LIMIT:
        raise LoadError(say("truncated, or no packed model"))
    if zlib.crc32(rest) != check:
        raise LoadError(say("damaged: its checksum differs"))
    try:
        header = json.loads(expand("zlib", bytes(rest[:stored]), size, "header"))
    except (ValueError, RecursionError):
        raise LoadError(say("its header is no JSON")) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise LoadError(say("its header is not that of a packed model"))
    if header.get("version") != VERSION:
        raise LoadError(
            say(
                "version {found}; this release reads version {version}",
                found=str(header.get("version"))[:20],
                version=VERSION,
            )
        )
    return header, rest[stored:]
