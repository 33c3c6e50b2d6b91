from __future__ import annotations

from ..statistics import Statistics
from . import Observer, registry

KEPT = 0.9999


@registry.register("percentile")
class Percentile(Observer):
    """The middle 99.99 % of the activations that are not zero; the few beyond are clipped.

    Affine: low and high are the 0.005th and the 99.995th percentile; symmetric: high = -low is the 99.99th percentile of |x|;
    from a histogram of 2048 bins, linear within a bin, widened to include 0. Scale, zero point and codes as for min-max:
    scale = (high - low) / (2^b - 1). A side on which nothing lies stays at 0 (after a ReLU).
    Source: Wu et al. 2020, arXiv 2004.09602, section 4; McKinstry et al. 2018, arXiv 1809.04191.
    """

    title = "percentile"

    def range(self, seen: Statistics, bits: int, scheme: str) -> tuple[float, float]:
        if not int(seen.counts.sum()):
            return seen.low, seen.high
        if scheme == "symmetric":
            reach = seen.quantile(KEPT, absolute=True)
            return -reach, reach
        out = (1 - KEPT) / 2
        return seen.quantile(out), seen.quantile(1 - out)
