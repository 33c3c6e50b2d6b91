"""Where the survivors are: a bitmap, distances between them, or nothing where most stay.

Relative index: the number of zeros before each survivor in ``bits`` bits. Where a gap is longer than 2**bits - 2, the
largest symbol stands for 2**bits - 1 zeros without a survivor: the filler of Deep Compression (Han et al. 2016,
arXiv 1510.00149, figure 1), which stores a zero weight there; a symbol of its own saves that weight.
"""

from __future__ import annotations

import numpy as np

from ...core.errors import LoadError
from ...core.message import say
from .streams import Stream, decode, encode

KINDS = ("dense", "bitmap", "relative")


def gaps(positions: np.ndarray, bits: int) -> np.ndarray:
    """Symbols of the relative index of ascending positions."""
    jump = (1 << bits) - 1
    zeros = np.diff(positions, prepend=-1) - 1
    fillers, rest = np.divmod(zeros, jump)
    out = np.full(len(zeros) + int(fillers.sum()), jump, np.uint16)
    out[np.cumsum(fillers + 1) - 1] = rest
    return out


def from_gaps(symbols: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of :func:`gaps`: ascending positions, int64."""
    jump = (1 << bits) - 1
    filler = symbols == jump
    steps = np.where(filler, jump, symbols.astype(np.int64) + 1)
    found: np.ndarray = (np.cumsum(steps) - 1)[~filler]
    return found


def smallest(alive: np.ndarray) -> tuple[str, Stream]:
    """(kind, stream) of the smaller way to say which entries of a flat bool array are survivors."""
    positions = np.flatnonzero(alive)
    trials = {bits: gaps(positions, bits) for bits in (3, 4, 5, 6, 8, 10)}
    bits = min(trials, key=lambda one: min(entropy(trials[one]), one * len(trials[one])))
    found = {"bitmap": encode(np.packbits(alive), 8), "relative": encode(trials[bits], bits)}
    kind = min(found, key=lambda one: len(found[one].data))
    return kind, found[kind]


def entropy(symbols: np.ndarray) -> float:
    """Bits that an ideal code of single symbols needs for all of them."""
    seen = np.bincount(symbols)
    seen = seen[seen > 0]
    return float((seen * np.log2(len(symbols) / seen)).sum())


def positions_of(kind: str, stream: Stream | None, numel: int, where: str) -> np.ndarray:
    """Ascending positions below ``numel`` of the survivors. Raises :class:`LoadError`."""
    if kind == "dense" and stream is None:
        return np.arange(numel)
    if kind == "bitmap" and stream is not None and stream.bits == 8 and stream.count == -(-numel // 8):
        flags = np.unpackbits(decode(stream, where).astype(np.uint8))
        if not flags[numel:].any():
            return np.flatnonzero(flags)
    if kind == "relative" and stream is not None:
        found = from_gaps(decode(stream, where), stream.bits)
        if not len(found) or found[-1] < numel:
            return found
    raise LoadError(say("{where}: its index does not fit {numel} entries", where=where, numel=numel))
