"""How what was seen of a scan's samples speaks of the whole split: they are a fair sample of it, or one of each stratum."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import numpy as np
from torch import Tensor

from ..core.report import Figure
from .allocation import Allocation
from .intervals import Within, Z, wilson
from .metrics import Metrics, Table, figure
from .rates import Counted
from .stopping import Widths

Main = tuple[str, Figure, Figure]


class Design(Protocol):
    """before, after: what the base and a plan answered to the first samples of the design's order."""

    def main(self, before: Table, after: Table) -> Main:
        """(name, value, change) of the main metric, with intervals that speak of samples not in the split."""

    def within(self, before: Table, after: Table, z: float) -> tuple[float, float] | None:
        """Where the change of the whole split lies; None where the metric has no interval. z: a normal quantile."""

    def widths(self, before: Table, after: Table) -> Widths:
        """How wide this would be after other numbers of samples."""


class Proportional:
    """Every prefix is a fair sample, of which any metric can be told."""

    def __init__(self, metrics: Metrics, split: str, total: int) -> None:
        self.metrics, self.split, self.total = metrics, split, total

    def main(self, before: Table, after: Table) -> Main:
        return self.metrics.main(before, after, self.split)

    def within(self, before: Table, after: Table, z: float) -> tuple[float, float] | None:
        change = self.metrics.main(before, after, self.split, Within(self.total, z))[2]
        return None if change.low is None or change.high is None else (change.low, change.high)

    def widths(self, before: Table, after: Table) -> Widths:
        n = len(next(iter(after.values())))

        def expected(sizes: np.ndarray, z: float) -> np.ndarray:
            low, high = self.within(before, after, z) or (-np.inf, np.inf)
            endless = sizes * (self.total - 1) / (self.total - sizes)
            found: np.ndarray = (high - low) * np.sqrt(Within(self.total).effective(n) / endless)
            return found

        return expected


class Stratified:
    """Of some strata more was seen than of others, so what was won and lost in each is weighted by the stratum's size. Of right answers alone.

    right: [N] bools of the base's answers to all samples, in the allocation's order: since these are known, only the change is estimated.

    The value's interval joins what is not known of the split with what the split does not tell of other samples (Zou and Donner 2008, Statistics in
    Medicine 27, 1693-1702).
    """

    def __init__(self, metrics: Metrics, split: str, allocation: Allocation, right: Tensor) -> None:
        self.metrics, self.split, self.allocation, self.right = metrics, split, allocation, right.numpy(force=True)
        self.name = ""

    def _counted(self, after: Table) -> Counted:
        if self not in after.known:
            now = self.metrics.right(after)
            assert now is not None
            after.known[self] = self.allocation.counted(self.right, now.numpy(force=True))
        found: Counted = after.known[self]
        return found

    def main(self, before: Table, after: Table) -> Main:
        found, n, total = self._counted(after), len(next(iter(after.values()))), len(self.right)
        change, (low, high) = float(found.change), map(float, found.interval(Z, beyond=True))
        down, up = (abs(float(end) - change) for end in found.interval(Z))
        value = min(1.0, max(0.0, float(self.right.mean()) + change))
        ends = wilson(value * total, total)  # were all of it known
        around = max(0.0, value - math.hypot(value - ends[0], down)), min(1.0, value + math.hypot(ends[1] - value, up))
        self.name = self.name or self.metrics.main(before, after, self.split)[0]
        values = figure(value, self.split, n, around)
        return self.name, values, figure(change, self.split, n, (max(-1.0, low), min(1.0, high)))

    def within(self, before: Table, after: Table, z: float) -> tuple[float, float] | None:
        low, high = self._counted(after).interval(z)
        return float(low), float(high)

    def widths(self, before: Table, after: Table) -> Widths:
        return partial(self._expected, self._counted(after))

    def _expected(self, found: Counted, sizes: np.ndarray, z: float) -> np.ndarray:
        seen = self.allocation.seen(sizes)
        ratio = seen / np.maximum(found.seen, 1)
        spread = None if found.spread is None else np.broadcast_to(found.spread[:, None], (3, *seen.shape))
        low, high = Counted(found.won * ratio, found.lost * ratio, seen, found.sizes, spread).interval(z)
        width: np.ndarray = high - low
        return width
