"""What a classifier's figures are made of, each counted in one pass by compiled code: NumPy's passes, one after the other, take several times as long."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ...analysis.compiled import compiled

_in_any_order: Any = partial(compiled, fastmath={"reassoc", "contract"})  # sums of which several are added up at once


@compiled
def confusion_counts(targets: np.ndarray, predictions: np.ndarray, counts: np.ndarray) -> None:  # pragma: no cover (compiled)
    """Adds to counts [C, C], rows = target, columns = prediction, one for each of the N samples; classes in 0 .. C - 1."""
    for i in range(targets.size):
        counts[targets[i], predictions[i]] += 1


@compiled
def macro(counts: np.ndarray) -> tuple[int, float, float, float]:  # pragma: no cover (compiled)
    """(right answers, macro precision, recall, F1) of counts [C, C], over the classes that occur as target or prediction; 0 where undefined."""
    hits = classes = 0
    precision = recall = f1 = 0.0
    for c in range(len(counts)):
        support = predicted = 0
        for k in range(len(counts)):
            support, predicted = support + counts[c, k], predicted + counts[k, c]
        hit = counts[c, c]
        if support + predicted:
            hits, classes = hits + hit, classes + 1
            precision, recall = precision + hit / max(predicted, 1), recall + hit / max(support, 1)
            f1 += 2 * hit / (support + predicted)
    some = max(classes, 1)
    return hits, precision / some, recall / some, f1 / some


@compiled
def bounds(targets: np.ndarray) -> tuple[int, int]:  # pragma: no cover (compiled)
    """(smallest, largest) of int64 [N]; (0, 0) of none."""
    low = high = targets[0] if targets.size else 0
    for one in targets:
        low, high = min(low, one), max(high, one)
    return low, high


@compiled
def agreement(targets: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """(right before, right after, right in both) of classes [N]."""
    was = now = both = 0
    for i in range(targets.size):
        first, second = before[i] == targets[i], after[i] == targets[i]
        was, now, both = was + first, now + second, both + (first & second)
    return was, now, both


@_in_any_order
def _moments(values: np.ndarray) -> tuple[float, float]:  # pragma: no cover (compiled)
    total = squares = 0.0
    for i in range(values.size):
        total += np.float64(values[i])
    centre = total / values.size
    for i in range(values.size):
        squares += (np.float64(values[i]) - centre) ** 2
    return centre, squares


@_in_any_order
def _moments_of_change(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:  # pragma: no cover (compiled)
    total = squares = 0.0
    for i in range(after.size):
        total += np.float64(after[i]) - np.float64(before[i])
    centre = total / after.size
    for i in range(after.size):
        squares += (np.float64(after[i]) - np.float64(before[i]) - centre) ** 2
    return centre, squares


def moments(values: np.ndarray, before: np.ndarray | None = None) -> tuple[float, float]:
    """(mean, standard deviation) of float32 [N], or of their change since ``before``, in float64; NaN of none."""
    if not len(values):
        return math.nan, math.nan
    centre, squares = _moments(values) if before is None else _moments_of_change(before, values)
    return centre, math.sqrt(squares / max(1, len(values) - 1))


# compiled now, and not in an evaluation, whose pace is measured
_one, _class = np.zeros(1, np.float32), np.zeros(1, np.int64)
moments(_one), moments(_one, _one), bounds(_class), agreement(_class, _class, _class)
confusion_counts(_class, _class, counts := np.zeros((1, 1), np.int64)), macro(counts)
