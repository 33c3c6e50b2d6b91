"""When an adaptive scan stops a point: at a first look at everything, or at the one further look that it was planned for.

Two looks share the error between them (Bonferroni); many would each have to be wider, and each doubles what was needed.
Source of the second look's size: Stein 1945, Ann. Math. Stat. 16, 243-258 (two-stage sampling).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from .intervals import Within

FIRST_LOOK = 512  # samples
STEP = 512  # further looks are at multiples of this, so that points share them
ERRORS = (0.01, 0.03)  # of the two looks; what is left of 5 % is for the second one's size, which the first has chosen
SLACK = 1.05  # more samples than the first look says
NEARLY = 0.9  # of all samples: then all of them


def look(total: int, n: int) -> Within:
    """What an interval after ``n`` of ``total`` samples has to allow for."""
    return Within(total, NormalDist().inv_cdf(1 - ERRORS[n > FIRST_LOOK] / 2))


def second_look(width: float, n: int, total: int, tolerance: float) -> int:
    """Samples after which an interval will be within +- ``tolerance``, when after ``n`` it had this width by :func:`last`."""
    needed = n * (total - 1) / (total - n) * (width / (2 * tolerance)) ** 2 * SLACK  # of an endless population
    found = math.ceil(needed * total / (total - 1 + needed) / STEP) * STEP
    return total if found >= NEARLY * total else max(found, n + STEP)


def last(total: int) -> Within:
    """Of the second look."""
    return look(total, total)
