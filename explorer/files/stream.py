"""Counting the weights of files of any size: piece by piece, in threads, a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

import numpy as np

from ..analysis import counting
from ..analysis.patterns import COUNTED, WORDS, as_float32
from ..analysis.tally import Tally, tally
from .header import Entry
from .parallel import in_order
from .sources import Source, blocks, pieces

Progress = Callable[[int, int], None] | None
Cancel = Callable[[], bool] | None


def tallies(
    source: Source, names: Collection[str] | None = None, progress: Progress = None, cancel: Cancel = None
) -> Iterator[tuple[str, Tally]]:
    """(name, its entries counted by their bits), in the order of the file; of ``names``, or of all that may be weights.

    Never more than some pieces are in memory. ``progress(bytes done, of all)``; ``cancel()`` is asked between pieces.
    Raises :class:`LoadError` for a file that changes meanwhile, :class:`Cancelled`.
    """
    chosen = [e for e in source.entries.values() if e.dtype in COUNTED and (names is None or e.name in names)]
    work = [(entry, start, n) for entry in chosen for start, n in pieces(entry)]
    size, done = sum(entry.stop - entry.start for entry in chosen), 0
    results = in_order((partial(_count, source, *one) for one in work), cancel)
    counts, zeros = np.zeros(0, np.int64), 0
    for (entry, start, n), (found, zero) in zip(work, results, strict=True):
        counts, zeros = (counts + found, zeros + zero) if start else (found, zero)
        done += n * np.dtype(WORDS[entry.dtype]).itemsize
        if start + n >= entry.numel:
            yield entry.name, tally(entry.dtype, counts, zeros if entry.dtype in ("F32", "F64") else None)
        if progress is not None:
            progress(done, size)


def _count(source: Source, entry: Entry, start: int, n: int) -> tuple[np.ndarray, int]:
    words = blocks(source, entry, start, n)
    width = np.dtype(WORDS[entry.dtype]).itemsize
    if width < 4:
        return counting.patterns(words, width), 0
    return counting.leading(as_float32(one, entry.dtype) for one in words)


def inside(source: Source, name: str, key: int, cancel: Cancel = None) -> np.ndarray:
    """int64 [65536]: of a wide tensor's entries with the leading magnitude bits ``key``, how often each rest occurs. A second look."""
    entry = source.entries[name]

    def look(start: int, n: int) -> np.ndarray:
        return counting.inside((as_float32(one, entry.dtype) for one in blocks(source, entry, start, n)), key)

    total = np.zeros(1 << 16, np.int64)
    for found in in_order((partial(look, *piece) for piece in pieces(entry)), cancel):
        total += found
    return total
