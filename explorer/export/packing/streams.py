"""Small integers -> bytes and back: packed to their bits or a byte each, entropy-coded, whatever is smallest.

DEFLATE without matches is Huffman coding, the entropy coder of Deep Compression (Han et al. 2016, arXiv 1510.00149,
section 4); DEFLATE and LZMA with matches win where zeros come in runs. All three are the standard library's.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import LoadError
from ...core.message import say

WIDEST = 16  # bits of a symbol
PATIENCE = 8 << 20  # bytes above which LZMA, at some 2 MB/s, is not tried
SHORT = 1 << 16  # bytes below which DEFLATE with matches may beat LZMA
CODERS = ("raw", "zlib", "lzma")


@dataclass(frozen=True)
class Stream:
    """One coded run of symbols. layout: "bits" (packed) or "bytes" (1 or 2 a symbol, little-endian)."""

    layout: str
    coder: str
    bits: int
    count: int
    data: bytes

    @property
    def row(self) -> list[Any]:
        """What the header says about it."""
        return [self.layout, self.coder, self.bits, self.count, len(self.data)]


def pack_bits(symbols: np.ndarray, bits: int) -> bytes:
    """Integers in [0, 2**bits) as a run of bits, the most significant first, padded with zeros to whole bytes."""
    parts = []
    for start in range(0, len(symbols), 1 << 20):  # a multiple of 8 symbols is whole bytes
        part = symbols[start : start + (1 << 20)].astype(np.uint16)
        spread = (part[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint16)) & 1
        parts.append(np.packbits(spread.astype(np.uint8)).tobytes())
    return b"".join(parts)


def unpack_bits(data: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of :func:`pack_bits`: [count] uint16."""
    out = np.empty(count, np.uint16)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.int64)
    for start in range(0, count, 1 << 20):
        n = min(1 << 20, count - start)
        begin = start * bits // 8
        part = np.frombuffer(data[begin : begin + -(-n * bits // 8)], np.uint8)
        out[start : start + n] = np.unpackbits(part, count=n * bits).reshape(n, bits) @ weights
    return out


def _filters(size: int) -> list[dict[str, Any]]:
    """Raw LZMA2 with a dictionary no larger than the data, which bounds what a reader must allocate."""
    return [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": min(max(size, 4096), PATIENCE)}]


def _deflate(data: bytes, strategy: int) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return coder.compress(data) + coder.flush()


def squeeze(data: bytes) -> tuple[str, bytes]:
    """(coder, coded) of the smallest of all coders."""
    found = [("raw", data)]
    if data:
        found.append(("zlib", _deflate(data, zlib.Z_HUFFMAN_ONLY)))
        if len(data) <= SHORT:
            found.append(("zlib", _deflate(data, zlib.Z_DEFAULT_STRATEGY)))
        if len(data) <= PATIENCE:
            found.append(("lzma", lzma.compress(data, lzma.FORMAT_RAW, filters=_filters(len(data)))))
    return min(found, key=lambda pair: len(pair[1]))


def expand(coder: str, data: bytes, size: int, where: str) -> bytes:
    """What :func:`squeeze` coded, exactly ``size`` bytes; never more is made. Raises :class:`LoadError`."""
    out = b""
    try:
        if coder == "raw":
            out = data
        elif coder == "zlib":
            inflate = zlib.decompressobj(-15)
            out = inflate.decompress(data, size + 1)
            if not inflate.eof or inflate.unused_data:
                out = b"" if size else b"?"
        elif coder == "lzma":
            out = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(size)).decompress(data, size + 1)
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise LoadError(
            say("{where}: damaged {coder} data ({error})", where=where, coder=coder, error=str(error)[:80])
        ) from None
    if len(out) != size or coder not in CODERS:
        raise LoadError(
            say("{where}: the data are not the {size} bytes that the header states", where=where, size=size)
        )
    return out


def encode(symbols: np.ndarray, bits: int) -> Stream:
    """The smallest coding of integers in [0, 2**bits), 0 < bits <= 16."""
    plain = symbols.astype("<u2" if bits > 8 else np.uint8).tobytes()
    layouts: dict[str, Callable[[], bytes]] = {"bits": lambda: pack_bits(symbols, bits), "bytes": lambda: plain}
    if bits in (8, 16):  # the same thing twice
        del layouts["bits"]
    coded = [(layout, *squeeze(make())) for layout, make in layouts.items()]
    layout, coder, data = min(coded, key=lambda one: len(one[2]))
    return Stream(layout, coder, bits, len(symbols), data)


def decode(stream: Stream, where: str) -> np.ndarray:
    """[count] uint16 of a stream whose row was checked by :func:`row_of`."""
    bits, count = stream.bits, stream.count
    if stream.layout == "bits":
        return unpack_bits(expand(stream.coder, stream.data, -(-count * bits // 8), where), bits, count)
    wide = bits > 8
    found = np.frombuffer(expand(stream.coder, stream.data, count * (1 + wide), where), "<u2" if wide else np.uint8)
    if count and int(found.max()) >> bits:
        raise LoadError(say("{where}: a symbol needs more than {bits} bits", where=where, bits=bits))
    return found.astype(np.uint16)


def checked_row(row: object, limit: int, where: str) -> tuple[str, str, int, int, int]:
    """(layout, coder, bits, count, bytes) of a header's row. Raises :class:`LoadError` for anything that is not one."""
    good = (
        isinstance(row, list)
        and len(row) == 5
        and row[0] in ("bits", "bytes")
        and row[1] in CODERS
        and all(type(n) is int and n >= 0 for n in row[2:])
        and 0 < row[2] <= WIDEST
        and row[3] <= limit
    )
    if not good:
        raise LoadError(say("{where}: no valid stream ({row})", where=where, row=str(row)[:80]))
    assert isinstance(row, list)
    return row[0], row[1], row[2], row[3], row[4]
