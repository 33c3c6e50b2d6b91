"""Which tokens a model gets right, by compiled code: a search for the largest logit's place takes many times as long as its comparison with one."""

from __future__ import annotations

import numpy as np

from ...analysis.compiled import compiled


@compiled
def are_right(logits: np.ndarray, targets: np.ndarray, found: np.ndarray) -> None:  # pragma: no cover (compiled)
    """logits [M, V]; targets [M], below 0 where none counts; found [M], filled with whether the first largest logit is the target's."""
    for k in range(len(logits)):
        row, target = logits[k], targets[k]
        found[k] = False
        if target < 0:
            continue
        own, above, before = row[target], np.int32(0), np.int32(0)
        for c in range(len(row)):
            above += np.int32(row[c] > own)
        if above == 0:
            for c in range(target):
                before += np.int32(row[c] == own)
            found[k] = before == 0


def right(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """bool [M] of finite logits [M, V] and int64 targets [M]."""
    found = np.empty(len(logits), np.bool_)
    are_right(logits, targets, found)
    return found


# compiled now, and not in an evaluation, whose pace is measured
right(np.zeros((1, 1), np.float32), np.zeros(1, np.int64))
