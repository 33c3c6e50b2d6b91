from __future__ import annotations

import torch

from ..divergence import Histograms
from ..statistics import BINS, Statistics
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
        low, high = min(seen.low, 0.0), max(seen.high, 0.0)
        if scheme == "symmetric":
            low, high = -max(-low, high), max(-low, high)
        step = (seen.high - seen.low) / BINS
        found = Histograms(seen.counts[None], torch.tensor([seen.low]), torch.tensor([step], dtype=torch.float64))
        least, most = found.best_range(torch.tensor([low]), torch.tensor([high]), bits, scheme)
        return float(least), float(most)
