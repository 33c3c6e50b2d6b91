"""KL divergence between a histogram and what is left of it at few levels, for many ranges: by prefix sums.

Bins that share a code lie side by side, so all that the divergence needs of a level are differences of prefix sums: a range
costs a few look-ups a level, whatever the number of bins, and many ranges are looked up at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.device import precise
from .codes import Uniform
from .ranges import FACTORS, clipped, uniform
from .slices import Slices

LEAST = 1e-9  # of a probability: what no level can tell of costs much, but not infinitely much
ENTRIES = 1 << 18  # of ranges times levels at once: what fits a core's cache


class Histograms:
    """Counts [slices, bins] of evenly spaced bins: bin j of slice i has its centre at start[i] + (j + 1/2) step[i]."""

    def __init__(self, counts: Tensor, start: Tensor, step: Tensor) -> None:
        there = precise(counts.device)
        self.counts, self.start, self.step = (one.to(there).double() for one in (counts, start, step))
        self.mass, self.filled, self.log = (
            torch.nn.functional.pad(one.double().cumsum(1), (1, 0))
            for one in (self.counts, self.counts > 0, torch.xlogy(self.counts, self.counts))
        )

    def divergence(self, codes: Uniform, least: Tensor, most: Tensor, of: Tensor) -> Tensor:
        """float64 [ranges]: KL(P || Q) of histograms clipped to [least, most] and of what the levels of ``codes`` can tell.

        codes, least, most, of: one a range; ``of``: the slice that it is about. P: the counts within the range, those beyond it
        added to the outermost bins. Q: the counts of all bins that share a code, spread evenly over those of them that are not
        empty. Source: Migacz 2017, 8-bit inference with TensorRT, GTC S7310.
        """
        bins = self.counts.shape[1]
        start, step, row = self.start[of, None], self.step[of, None], of[:, None] * (bins + 1)

        def at(sums: Tensor, place: Tensor) -> Tensor:
            return sums.take(row + place)

        def below(value: Tensor) -> Tensor:
            """How many bins lie between the centre of the first one and a value."""
            return (value - start) / step - 0.5

        first = below(least.double()[:, None]).ceil().clamp(0, bins - 1).long()
        last = below(most.double()[:, None]).floor().clamp(0, bins - 1).long().maximum(first)
        scale, zero = codes.scale.reshape(-1, 1).double(), codes.zero_point.reshape(-1, 1).double()
        lowest = int((start / scale + zero).round().clamp(codes.low, codes.high).min())
        edges = (
            torch.arange(lowest, codes.high, device=scale.device) + 0.5 - zero
        ) * scale  # between a code and the next
        edges = (below(edges).floor() + 1).clamp(0, bins).long().maximum(first).minimum(last + 1)
        bounds = torch.cat([first, edges, last + 1], 1)
        mass, filled = at(self.mass, bounds).diff(dim=1), at(self.filled, bounds).diff(dim=1)
        p, log, whole = mass.clone(), at(self.log, last + 1) - at(self.log, first), self.mass[of, -1:]
        under, over = at(self.mass, first), whole - at(self.mass, last + 1)
        one = first == last  # a range of one bin takes both ends
        for end, extra in ((first, torch.where(one, under + over, under)), (last, torch.where(one, 0.0, over))):
            count, level = at(self.mass, end + 1) - at(self.mass, end), (edges <= end).sum(1, keepdim=True)
            p.scatter_add_(1, level, extra)
            filled.scatter_add_(1, level, ((count == 0) & (extra > 0)).double())
            log = log + torch.xlogy(count + extra, count + extra) - torch.xlogy(count, count)
        inside = mass.sum(1, keepdim=True)
        q = (mass / (filled * inside).clamp(min=1e-30)).clamp(min=LEAST)
        whole = whole.clamp(min=1e-30)
        return ((log - torch.xlogy(p, q).sum(1, keepdim=True)) / whole - whole.log())[:, 0]

    def best_range(self, least: Tensor, most: Tensor, bits: int, scheme: str, every: int = 1) -> tuple[Tensor, Tensor]:
        """[least, most] of each slice, float32, cut to [-t, t] with the t of 1.00, 0.99 ... 0.01 times its largest size that
        diverges least; ``every``: of how many thresholds one is tried. Of equal ones the largest."""
        here, n = least.device, len(least)
        least, most = (one.to(self.counts.device) for one in (least, most))
        factors = torch.tensor(FACTORS[::every], device=least.device)
        found = []
        for some in factors.split(max(1, ENTRIES // (n << bits))):
            low, high = (one.flatten() for one in clipped(least[None], most[None], some[:, None]))
            codes = uniform(low, high, bits, scheme, Slices((len(low), 1), 0))
            slices = torch.arange(n, device=low.device).repeat(len(some))
            found.append(self.divergence(codes, low, high, slices).view(len(some), n))
        low, high = clipped(least, most, factors[torch.cat(found).argmin(0)])
        return low.to(here), high.to(here)
