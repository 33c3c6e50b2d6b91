"""How far two tensors are apart: sums over their entries, in compiled code that leaves Python's lock to others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .compiled import compiled


@dataclass(frozen=True)
class Difference:
    """Of two tensors a and b of one shape. largest: max |a - b|. gap, first, second: sums of (a - b)^2, a^2, b^2. both: sum of a b.
    changed, zeros_a, zeros_b: entries. A NaN equals a NaN; where only one of two is none, largest and gap are infinite."""

    n: int = 0
    largest: float = 0.0
    gap: float = 0.0
    first: float = 0.0
    second: float = 0.0
    both: float = 0.0
    changed: int = 0
    zeros_a: int = 0
    zeros_b: int = 0

    def __add__(self, other: Difference) -> Difference:
        sums = (self.gap + other.gap, self.first + other.first, self.second + other.second, self.both + other.both)
        counts = (self.changed + other.changed, self.zeros_a + other.zeros_a, self.zeros_b + other.zeros_b)
        return Difference(self.n + other.n, max(self.largest, other.largest), *sums, *counts)

    @property
    def relative(self) -> float:
        """||a - b|| / ||a||; 0 where both are zero, infinite where only a is."""
        if self.gap == 0:
            return 0.0
        return math.sqrt(self.gap / self.first) if self.first > 0 else math.inf

    @property
    def cosine(self) -> float:
        """a . b / (||a|| ||b||); NaN where one of them is zero."""
        size = math.sqrt(self.first) * math.sqrt(self.second)
        return min(1.0, max(-1.0, self.both / size)) if size > 0 else math.nan


@compiled
def _differ(a: np.ndarray, b: np.ndarray) -> tuple:  # type: ignore[type-arg]  # pragma: no cover (compiled)
    largest = gap = first = second = both = 0.0
    changed = zeros_a = zeros_b = 0
    for i in range(a.size):
        x, y = np.float64(a[i]), np.float64(b[i])
        zeros_a += int(x == 0)
        zeros_b += int(y == 0)
        first += x * x
        second += y * y
        both += x * y
        if x != y and not (x != x and y != y):
            changed += 1
            d = float(abs(x - y))
            if d != d:
                d = np.inf
            largest = max(largest, d)
            gap += d * d
    return largest, gap, first, second, both, changed, zeros_a, zeros_b


def differ(a: np.ndarray, b: np.ndarray) -> Difference:
    """Of two arrays of float32 or float64, of the same length; sums in float64."""
    return Difference(a.size, *_differ(a, b))
