"""What calibration keeps of an activation."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.errors import EvaluationError
from ..core.message import say

BINS = 2048


@dataclass(eq=False)
class Statistics:
    """Of everything that one weight was multiplied by, over the calibration samples.

    lows, highs: of each batch, in order. counts: int64 [2048] over [low, high], values that are exactly zero left out, since
    zero is a level of every range; ``zeros`` of them. n: values in all.
    """

    name: str
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    counts: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.int64))
    zeros: int = 0
    n: int = 0
    _batch: list[Tensor] = field(default_factory=list)

    @property
    def low(self) -> float:
        """The least value."""
        return min(self.lows)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.highs)

    def see(self, x: Tensor) -> None:
        """First pass: extremes."""
        if x.numel():
            self._batch.append(torch.stack(x.detach().float().aminmax()))

    def end_batch(self) -> None:
        """Close a batch of the first pass. Raises :class:`EvaluationError` for values that are not finite."""
        if not self._batch:
            return
        ends = torch.stack(self._batch)
        self._batch.clear()
        if not bool(torch.isfinite(ends).all()):
            raise EvaluationError(
                say(
                    "{layer}: what enters it holds NaN or infinity; accepted for calibration: finite activations",
                    layer=self.name,
                )
            )
        self.lows.append(float(ends[:, 0].min()))
        self.highs.append(float(ends[:, 1].max()))

    def count(self, x: Tensor) -> None:
        """Second pass: the histogram."""
        x = x.detach().float().flatten()
        left = x[x != 0]
        self.n += x.numel()
        self.zeros += x.numel() - left.numel()
        if left.numel() and self.high > self.low:
            places = ((left - self.low) * (BINS / (self.high - self.low))).long().clamp_(0, BINS - 1)
            self.counts += torch.bincount(places, minlength=BINS).cpu()

    @property
    def edges(self) -> Tensor:
        """float64 [2049]: edges of the bins."""
        return torch.linspace(self.low, self.high, BINS + 1, dtype=torch.float64)

    def quantile(self, q: float, absolute: bool = False) -> float:
        """The value below which a fraction ``q`` of the values that are not zero lies (``absolute``: of their sizes); linear
        within a bin."""
        counts, edges = self.counts.double(), self.edges
        if absolute:
            reach = max(-self.low, self.high)
            centers = ((edges[1:] + edges[:-1]) / 2).abs()
            places = (
                (centers * (BINS / reach)).long().clamp(0, BINS - 1)
                if reach > 0
                else torch.zeros(BINS, dtype=torch.long)
            )
            counts = torch.zeros(BINS, dtype=torch.float64).scatter_add_(0, places, counts)
            edges = torch.linspace(0, reach, BINS + 1, dtype=torch.float64)
        below = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        goal = q * float(below[-1])
        index = min(max(int(torch.searchsorted(below, torch.tensor(goal, dtype=torch.float64))) - 1, 0), BINS - 1)
        part = (goal - float(below[index])) / max(float(counts[index]), 1.0)
        return float(edges[index] + min(part, 1.0) * (edges[index + 1] - edges[index]))
