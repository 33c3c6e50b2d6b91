from __future__ import annotations

from ..statistics import Statistics
from . import Observer, registry


@registry.register("minmax")
class MinMax(Observer):
    """The full range of the activations that were seen.

    low = min x, high = max x over all calibration samples, widened to include 0. Affine: scale = (high - low) / (2^b - 1), zero
    point = round(-low / scale), codes 0 ... 2^b - 1; symmetric: scale = max(|low|, |high|) / (2^(b-1) - 1), codes
    -(2^(b-1) - 1) ... 2^(b-1) - 1. Nothing that was seen is clipped; one outlier makes every step coarser.
    Source: Jacob et al. 2018, arXiv 1712.05877, section 3; Nagel et al. 2021, arXiv 2106.08295, section 3.1.
    """

    title = "min-max"

    def range(self, seen: Statistics, bits: int, scheme: str) -> tuple[float, float]:
        return seen.low, seen.high
