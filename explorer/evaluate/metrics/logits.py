"""Logits looked at once, by compiled code: torch's operations would each go through memory, and take their turn at Python's lock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from ...analysis.compiled import compiled

CELLS = 20_480  # logits of a block: what is computed of them stays in a core's cache
# exp(f ln 2) for |f| <= 0.5: its series, of which what is left out is below 2e-7
LOG2E, LOWEST, HALF = np.float32(1.44269504089), np.float32(-126), np.float32(0.5)
E0, E1, E2, E3, E4, E5, E6 = (
    np.float32(c) for c in (1.0, 0.69314718056, 0.24022650696, 0.05550410866, 0.00961812911, 0.00133335581, 0.00015403530)
)
_as_written: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
_compiled: Any = partial(compiled, **_as_written)


def widened(x: Any) -> Any:
    """A logit as float32: what is of 16 bit holds a bfloat16."""


@overload(widened, inline="always")
def _widened(x):  # type: ignore[no-untyped-def]  # numba compares the signatures
    if x == types.float32:
        return lambda x: x
    return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)


@njit(**_as_written)  # type: ignore[untyped-decorator]
def _exp(x):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    """exp of what is at most zero: 2^n by the exponent's bits, the rest by its series. A library's would be called for each."""
    y = x * LOG2E
    y = LOWEST if y < LOWEST else y
    n = np.floor(y + HALF)
    f = y - n
    power = E0 + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * E6)))))
    return power * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled
def look(
    logits: np.ndarray, start: int, targets: np.ndarray, largest: np.ndarray, first: np.ndarray, total: np.ndarray, own: np.ndarray, prediction: np.ndarray
) -> None:  # pragma: no cover (compiled)
    """Of logits [C, N] from sample ``start`` on: prediction [B], the first class of the largest; total [B], the sum over classes of the
    exponentials, each logit less the largest; own [B], the target's of these. largest, first [B]: room."""
    samples = prediction.size
    row = logits[0, start : start + samples]
    for i in range(samples):
        largest[i] = widened(row[i])
    for i in range(samples):
        first[i], total[i] = 0, 0
    for c in range(1, len(logits)):
        row = logits[c, start : start + samples]
        for i in range(samples):
            value, best = widened(row[i]), largest[i]
            larger = value > best
            largest[i] = value if larger else best
            first[i] = np.int32(c) if larger else first[i]
    for c in range(len(logits)):
        row = logits[c, start : start + samples]
        for i in range(samples):
            total[i] += _exp(widened(row[i]) - largest[i])
    for i in range(samples):
        own[i], prediction[i] = widened(logits[targets[i], start + i]) - largest[i], first[i]


@_compiled
def look_at_all(
    logits: np.ndarray, targets: np.ndarray, size: int, total: np.ndarray, own: np.ndarray, prediction: np.ndarray
) -> None:  # pragma: no cover (compiled)
    """:func:`look` at all samples of logits [C, N], ``size`` at a time."""
    largest, first = np.empty(size, np.float32), np.empty(size, np.int32)
    for start in range(0, targets.size, size):
        some = slice(start, start + size)
        look(logits, start, targets[some], largest, first, total[some], own[some], prediction[some])


def look_once(parts: Sequence[np.ndarray], targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cross-entropy [N], first index of the largest logit [N]) of logits [N, C], float32 or uint16 that holds bfloat16, given as parts of
    their rows, which may lie column by column, and of int64 targets [N] in 0 .. C - 1."""
    samples, size = len(targets), max(1, CELLS // parts[0].shape[1])
    loss, own, prediction = np.empty(samples, np.float32), np.empty(samples, np.float32), np.empty(samples, np.int64)
    at = 0
    for part in parts:
        some = slice(at, at + len(part))
        look_at_all(np.ascontiguousarray(part.T), targets[some], size, loss[some], own[some], prediction[some])
        at = some.stop
    return np.subtract(np.log(loss, loss), own, loss), prediction


# compiled now, and not in an evaluation, whose pace is measured
for _dtype in (np.float32, np.uint16):
    look_once([np.zeros((2, 2), _dtype)], np.zeros(2, np.int64))
