from __future__ import annotations

from ..statistics import Statistics
from . import Observer, registry

MOMENTUM = 0.1


@registry.register("moving-average")
class MovingAverage(Observer):
    """A moving average over batches of their least and largest activation.

    low <- low + 0.1 (min x - low) and high <- high + 0.1 (max x - high) for each batch of 16 calibration samples, from the first
    batch's on; widened to include 0. Scale, zero point and codes as for min-max: scale = (high - low) / (2^b - 1). An outlier in
    one batch counts for a tenth, and what lies beyond is clipped.
    Source: Jacob et al. 2018, arXiv 1712.05877, section 3.1; Krishnamoorthi 2018, arXiv 1806.08342.
    """

    title = "moving average"

    def range(self, seen: Statistics, bits: int, scheme: str) -> tuple[float, float]:
        low, high = seen.lows[0], seen.highs[0]
        for least, most in zip(seen.lows[1:], seen.highs[1:], strict=True):
            low, high = low + MOMENTUM * (least - low), high + MOMENTUM * (most - high)
        return low, high
