from __future__ import annotations

import torch

from ..ranges import FACTORS, clipped, divergence, uniform
from ..slices import Slices
from ..statistics import Statistics
from . import Observer, registry


@registry.register("entropy")
class Entropy(Observer):
    """The range that keeps most of the distribution's information (KL divergence).

    Of the thresholds t = 1.00, 0.99, ... 0.01 times max|x|, the one with the smallest KL(P || Q), and the range cut to [-t, t]: P is
    the histogram (2048 bins, zeros left out) clipped to the range, Q what is left of it when bins that share a code are merged. Scale, zero point and codes as for
    min-max: scale = (high - low) / (2^b - 1). Long tails are clipped where that costs less than coarse steps.
    Source: Migacz 2017, 8-bit inference with TensorRT, NVIDIA GTC S7310.
    """

    title = "entropy (KL)"

    def range(self, seen: Statistics, bits: int, scheme: str) -> tuple[float, float]:
        if not int(seen.counts.sum()):
            return seen.low, seen.high
        edges = seen.edges
        centers, counts = ((edges[1:] + edges[:-1]) / 2).float()[None], seen.counts.float()[None]
        low, high = min(seen.low, 0.0), max(seen.high, 0.0)
        if scheme == "symmetric":
            low, high = -max(-low, high), max(-low, high)
        best, found = float("inf"), 1.0
        for factor in FACTORS:
            least, most = clipped(torch.tensor([low]), torch.tensor([high]), factor)
            if not bool(((centers >= least) & (centers <= most) & (counts > 0)).any()):
                continue
            lost = float(divergence(counts, centers, uniform(least, most, bits, scheme, Slices()), least, most))
            if lost < best:
                best, found = lost, factor
        least, most = clipped(torch.tensor([low]), torch.tensor([high]), found)
        return float(least), float(most)
