"""Counting bit patterns in compiled code that leaves Python's lock to others: 16-bit patterns, and bins of wider ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .compiled import compiled

BINS = 1 << 16
SIGN, SHIFT, REST = np.uint32(0x7FFFFFFF), np.uint32(16), np.uint32(0xFFFF)


@compiled
def _count(words: np.ndarray, counts: np.ndarray) -> None:  # pragma: no cover (compiled)
    whole = words.size // 4 * 4
    # neighbours are often equal: two tables keep an addition from waiting for the last one
    for i in range(0, whole, 4):
        counts[0, words[i]] += 1
        counts[1, words[i + 1]] += 1
        counts[0, words[i + 2]] += 1
        counts[1, words[i + 3]] += 1
    for i in range(whole, words.size):
        counts[0, words[i]] += 1


@compiled
def _count_leading(words: np.ndarray, counts: np.ndarray) -> int:  # pragma: no cover (compiled)
    zeros = 0
    whole = words.size // 2 * 2
    for i in range(0, whole, 2):
        a, b = words[i], words[i + 1]
        zeros += int(a & SIGN == 0) + int(b & SIGN == 0)
        counts[0, a >> SHIFT] += 1
        counts[1, b >> SHIFT] += 1
    for i in range(whole, words.size):
        zeros += int(words[i] & SIGN == 0)
        counts[0, words[i] >> SHIFT] += 1
    return zeros


@compiled
def _count_inside(words: np.ndarray, key: np.uint32, counts: np.ndarray) -> None:  # pragma: no cover (compiled)
    for i in range(words.size):
        size = words[i] & SIGN
        if size >> SHIFT == key:
            counts[size & REST] += 1


def patterns(blocks: Iterable[np.ndarray], width: int) -> np.ndarray:
    """int64 [256 or 65536]: how often each pattern occurs among words of ``width`` 1 or 2 bytes; below 2^32 words in all."""
    counts = np.zeros((2, 1 << 8 * width), np.uint32)
    for words in blocks:
        _count(words, counts)
    return counts.sum(0, dtype=np.int64)


def leading(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """(int64 [65536]: how often each pattern of the leading 16 bits occurs among uint32 words, entries that are +-0)."""
    counts, zeros = np.zeros((2, BINS), np.uint32), 0
    for words in blocks:
        zeros += _count_leading(words, counts)
    return counts.sum(0, dtype=np.int64), zeros


def inside(blocks: Iterable[np.ndarray], key: int) -> np.ndarray:
    """int64 [65536]: of the float32 words whose magnitude has the leading 16 bits ``key``, how often each rest occurs."""
    counts = np.zeros(BINS, np.int64)
    for words in blocks:
        _count_inside(words, np.uint32(key), counts)
    return counts
