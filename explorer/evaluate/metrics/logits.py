"""Logits looked at once, by compiled code: torch's operations would each go through memory, and take their turn at Python's lock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...analysis.compiled import compiled

CELLS = 20_480  # logits of a block: what is computed of them stays in a core's cache


@compiled
def below_the_largest(
    logits: np.ndarray, start: int, targets: np.ndarray, below: np.ndarray, own: np.ndarray, prediction: np.ndarray
) -> None:  # pragma: no cover (compiled)
    """Of logits [N, C] from sample ``start`` on: below [C, B], each less the largest of its row; own [B], the target's of these;
    prediction [B], the first largest."""
    classes, samples = below.shape
    for i in range(samples):
        row = logits[start + i]
        largest, first = row[0], 0
        for c in range(1, classes):
            if row[c] > largest:
                largest, first = row[c], c
        for c in range(classes):
            below[c, i] = row[c] - largest
        own[i], prediction[i] = row[targets[i]] - largest, first


@compiled
def below_the_largest_of_columns(
    logits: np.ndarray, start: int, targets: np.ndarray, below: np.ndarray, own: np.ndarray, prediction: np.ndarray
) -> None:  # pragma: no cover (compiled)
    """The same of logits [C, N]: each line is a vector operation or two."""
    classes, samples = below.shape
    largest, first = np.empty(samples, np.float32), np.empty(samples, np.int32)
    row = logits[0, start : start + samples]
    for i in range(samples):
        largest[i], first[i] = row[i], 0
    for c in range(1, classes):
        row = logits[c, start : start + samples]
        for i in range(samples):
            value, best = row[i], largest[i]
            larger = value > best
            largest[i] = value if larger else best
            first[i] = np.int32(c) if larger else first[i]
    for c in range(classes):
        row, into = logits[c, start : start + samples], below[c]
        for i in range(samples):
            into[i] = row[i] - largest[i]
    for i in range(samples):
        own[i], prediction[i] = below[targets[i], i], first[i]


@compiled
def add_up(values: np.ndarray, total: np.ndarray) -> None:  # pragma: no cover (compiled)
    """total [B]: the sums of values [C, B] in the order of C, whatever B is."""
    total[:] = values[0]
    for c in range(1, len(values)):
        row = values[c]
        for i in range(total.size):
            total[i] += row[i]


@compiled
def confusion_counts(targets: np.ndarray, predictions: np.ndarray, counts: np.ndarray) -> None:  # pragma: no cover (compiled)
    """Adds to counts [C, C], rows = target, columns = prediction, one for each of the N samples; classes in 0 .. C - 1."""
    for i in range(targets.size):
        counts[targets[i], predictions[i]] += 1


def look_once(parts: Sequence[np.ndarray], targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cross-entropy [N], first index of the largest logit [N]) of float32 logits [N, C], given as parts of their rows, which may lie
    column by column, and of int64 targets [N] in 0 .. C - 1."""
    samples, classes = len(targets), parts[0].shape[1]
    loss, own, prediction = np.empty(samples, np.float32), np.empty(samples, np.float32), np.empty(samples, np.int64)
    size = max(1, CELLS // classes)
    room = np.empty(min(size, samples) * classes, np.float32)
    at = 0
    for part in parts:
        upright = part.strides[0] < part.strides[1]
        look, lines = (below_the_largest_of_columns, part.T) if upright else (below_the_largest, part)
        lines = np.ascontiguousarray(lines)
        for start in range(0, len(part), size):
            some = slice(at, at + min(size, len(part) - start))
            below = room[: (some.stop - at) * classes].reshape(classes, -1)
            look(lines, start, targets[some], below, own[some], prediction[some])
            add_up(np.exp(below, below), loss[some])
            at = some.stop
    return np.subtract(np.log(loss, loss), own, loss), prediction


# compiled now, and not in an evaluation, whose pace is measured
for _one in (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32).T):
    look_once([_one], np.zeros(2, np.int64))
confusion_counts(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros((1, 1), np.int64))
