"""Logits looked at once, by compiled code: torch's operations would each go through memory, and take their turn at Python's lock."""

from __future__ import annotations

import numpy as np

from ...analysis.compiled import compiled


@compiled
def below_the_largest(
    logits: np.ndarray, targets: np.ndarray, below: np.ndarray, own: np.ndarray, prediction: np.ndarray
) -> None:  # pragma: no cover (compiled)
    """Of logits [N, C]: below [C, N], each less the largest of its row; own [N], the target's of these; prediction [N], the first largest."""
    samples, classes = logits.shape
    for i in range(samples):
        row = logits[i]
        largest, first = row[0], 0
        for c in range(1, classes):
            if row[c] > largest:
                largest, first = row[c], c
        for c in range(classes):
            below[c, i] = row[c] - largest
        own[i], prediction[i] = row[targets[i]] - largest, first


@compiled
def confusion_counts(targets: np.ndarray, predictions: np.ndarray, counts: np.ndarray) -> None:  # pragma: no cover (compiled)
    """Adds to counts [C, C], rows = target, columns = prediction, one for each of the N samples; classes in 0 .. C - 1."""
    for i in range(targets.size):
        counts[targets[i], predictions[i]] += 1


def look_once(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cross-entropy [N], first index of the largest logit [N]) of float32 logits [N, C] and int64 targets [N] in 0 .. C - 1."""
    samples, classes = logits.shape
    below, own = np.empty((classes, samples), np.float32), np.empty(samples, np.float32)
    prediction = np.empty(samples, np.int64)
    below_the_largest(logits, targets, below, own, prediction)
    loss = np.exp(below, below).sum(0)
    return np.subtract(np.log(loss, loss), own, loss), prediction


# compiled now, and not in an evaluation, whose pace is measured
look_once(np.zeros((1, 1), np.float32), np.zeros(1, np.int64))
confusion_counts(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros((1, 1), np.int64))
