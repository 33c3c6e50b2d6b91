"""When an adaptive scan stops a point: at a first look at everything, or at one of the further looks, each planned by the one before.

Three looks share the error between them (Bonferroni); many would each have to be wider. Most of it goes to the second, at which most
points end; where the first said too little, the third saves the rest of the split. A second look that is far away is planned anew on the way to it,
which decides nothing and so takes no share.
Source of the next look's size: Stein 1945, Ann. Math. Stat. 16, 243-258 (two-stage sampling).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

FIRST_LOOK = 512  # samples
STEP = 128  # further looks are at multiples of this, so that points share them
# of the looks; what is left of 5 % is for the sizes of the later ones, which the earlier have chosen
ERRORS = (0.002, 0.025, 0.01)
IN_STRATA = (0.001, 0.035, 0.006)  # simulated, the choice of sizes costs less there
SLACK = 1.1  # more samples than a look says
NEARLY = 0.9  # of all samples: then all of them
FAR = 1000  # samples: a second look behind these is planned anew
WAY = 0.6  # of the way to it

Widths = Callable[[np.ndarray, float], np.ndarray]
Errors = tuple[float, ...]


def quantile(look: int, errors: Errors = ERRORS) -> float:
    """The normal quantile of the look with this number, from 0 on."""
    return NormalDist().inv_cdf(1 - errors[look] / 2)


def next_look(widths: Widths, look: int, n: int, total: int, tolerance: float, errors: Errors = ERRORS) -> int:
    """Samples to see before the look with this number, of which ``n`` were seen. ``widths(sizes, z)``: of the intervals to expect then."""
    if look >= len(errors):
        return total
    sizes = np.arange((n // STEP + 1) * STEP, NEARLY * total, STEP).astype(np.int64)
    narrow = np.flatnonzero(widths(sizes, quantile(look, errors)) * SLACK**0.5 <= 2 * tolerance) if len(sizes) else sizes
    return int(sizes[narrow[0]]) if len(narrow) else total


@dataclass
class Looks:
    """The looks of one point. errors: of each; taken: so many; goal: samples of the next one, or where it is planned anew."""

    errors: Errors = ERRORS
    taken: int = 0
    goal: int = FIRST_LOOK
    on_the_way: bool = False

    def settled(
        self,
        n: int,
        total: int,
        tolerance: float,
        within: Callable[[float], tuple[float, float] | None],
        widths: Callable[[], Widths],
        again: bool = True,
    ) -> bool:
        """Whether the point ends after ``n`` samples, at its goal; if not, the goal is a new one. within(z): the interval. again: plan a
        far look anew on the way to it."""
        first = not self.taken
        if not self.on_the_way:
            found = within(quantile(self.taken, self.errors))
            self.taken += 1
            if found is not None and found[1] - found[0] <= 2 * tolerance:
                return True
            if found is None:
                self.goal = total
                return False
        goal = next_look(widths(), self.taken, n, total, tolerance, self.errors)
        self.on_the_way = first and again and goal > FAR
        self.goal = max(n + STEP, int(WAY * min(goal, NEARLY * total)) // STEP * STEP) if self.on_the_way else goal
        return False
