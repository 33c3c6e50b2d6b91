"""When an adaptive scan stops a point: at a first look at everything, or at one of the further looks, each planned by the one before.

Three looks share the error between them (Bonferroni); many would each have to be wider. Most of it goes to the second, at which most
points end; where the first said too little, the third saves the rest of the split.
Source of the next look's size: Stein 1945, Ann. Math. Stat. 16, 243-258 (two-stage sampling).
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

FIRST_LOOK = 512  # samples
STEP = 128  # further looks are at multiples of this, so that points share them
ERRORS = (0.002, 0.035, 0.01)  # of the looks; what is left of 5 % is for the sizes of the later ones, which the earlier have chosen
SLACK = 1.1  # more samples than a look says
NEARLY = 0.9  # of all samples: then all of them

Widths = Callable[[np.ndarray, float], np.ndarray]


def quantile(look: int) -> float:
    """The normal quantile of the look with this number, from 0 on."""
    return NormalDist().inv_cdf(1 - ERRORS[look] / 2)


def next_look(widths: Widths, look: int, n: int, total: int, tolerance: float) -> int:
    """Samples to see before the look with this number, of which ``n`` were seen. ``widths(sizes, z)``: of the intervals to expect then."""
    if look >= len(ERRORS):
        return total
    sizes = np.arange((n // STEP + 1) * STEP, NEARLY * total, STEP).astype(np.int64)
    narrow = np.flatnonzero(widths(sizes, quantile(look)) * SLACK**0.5 <= 2 * tolerance) if len(sizes) else sizes
    return int(sizes[narrow[0]]) if len(narrow) else total
