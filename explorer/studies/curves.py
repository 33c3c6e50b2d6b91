"""Sensitivity curves as values: what each step of a target costs and saves, and the path on which most is saved per point lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A target at one sparsity or number of bits. drop: how much of the metric it costs (positive is worse), as measured;
    low, high: its interval; saved: bytes, or weights, that it saves. The first step of a curve changes nothing."""

    point: float | None
    drop: float = 0.0
    low: float | None = None
    high: float | None = None
    n: int = 0
    saved: float = 0.0


def hull(steps: Sequence[Step]) -> list[Step]:
    """The steps on the lower convex hull of (saved, drop), from the one that changes nothing on.

    A drop below zero counts as none, and one step is never cheaper than a smaller one: that a network gets better by losing more
    is, within a curve, noise. Source: Shoham, Gersho 1988, IEEE Trans. ASSP 36(9): on the hull, marginal returns diminish.
    """
    return [step for _, _, step in _corners(steps)]


def _corners(steps: Sequence[Step]) -> list[tuple[float, float, Step]]:
    """(saved, drop as it counts, step) of the steps on the hull."""
    order = sorted(
        (step for step in steps if step.point is None or step.saved > 0), key=lambda step: (step.saved, step.drop)
    )
    kept: list[tuple[float, float, Step]] = []
    floor = 0.0
    for step in order:
        if kept and step.saved == kept[-1][0]:  # the cheapest of those that save as much stands first
            continue
        floor = max(floor, step.drop)
        kept.append((step.saved, floor, step))
        while len(kept) > 2 and _above(*kept[-3:]):
            del kept[-2]
    return kept


def _above(a: tuple[float, float, Step], b: tuple[float, float, Step], c: tuple[float, float, Step]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


@dataclass(frozen=True)
class Move:
    """One step of one target on the path. price: drop per unit saved, of this step over the one before."""

    target: str
    step: Step
    price: float


def path(curves: Mapping[str, Sequence[Step]]) -> list[Move]:
    """Steps of all targets in order of price: every prefix is optimal for what it saves, were drops and savings to add up.

    The Lagrangian solution for separable convex curves: all steps whose price is below a common multiplier are made (Everett 1963,
    Operations Research 11; Shoham, Gersho 1988).
    """
    moves: list[tuple[float, int, Move]] = []
    for target, steps in curves.items():
        best, price = _corners(steps), 0.0
        for (saved, drop, _), (more, dearer, step) in zip(best, best[1:], strict=False):
            price = max(price, (dearer - drop) / (more - saved))  # the hull is convex; this guards against rounding
            moves.append((price, len(moves), Move(target, step, price)))
    return [move for _, _, move in sorted(moves, key=lambda one: one[:2])]


def first(count: int, meets: Callable[[int], bool]) -> int | None:
    """The smallest k in 0 .. count for which ``meets(k)`` holds, by bisection; None if it does not hold for ``count``."""
    if not meets(count):
        return None
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def worst(drops: Sequence[float]) -> float:
    """The sum of drops, none below zero."""
    return math.fsum(max(0.0, drop) for drop in drops)
