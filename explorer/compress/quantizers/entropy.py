from __future__ import annotations

import torch
from torch import Tensor

from ..codes import Codes
from ..divergence import Histograms
from ..ranges import reach, uniform
from ..slices import Slices
from . import Quantizer, registry

BINS, FEWER = 2048, 512  # of a tensor, and of each slice where there are several


@registry.register("entropy")
class Entropy(Quantizer):
    """Uniform quantization over the range that keeps most of the distribution's information (KL divergence).

    Of the thresholds t = 1.00, 0.99, ... 0.01 times max|w|, the one with the smallest KL(P || Q) is taken, and the range of the
    (pruned) weights cut to [-t, t]: P is the histogram (2048 bins; where there are several slices 512, and every fourth
    threshold; of |w| for symmetric) clipped to the range, Q what is left of it when bins that share a code are merged. Scale, zero point and codes follow from
    the range as for min-max: scale = range / (2^b - 1) (symmetric: half of it / (2^(b-1) - 1)); one a tensor, channel or gate; a
    group has too few weights for a distribution. Bits: 2 to 8.
    Source: Migacz 2017, 8-bit inference with TensorRT, NVIDIA GTC S7310.
    """

    title = "entropy (KL)"
    searches = True
    granularities = ("tensor", "channel", "gate")

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        rows = slices.rows(weight).float()
        least, most = reach(rows, scheme)
        if scheme == "symmetric":
            rows = rows.abs()
        bins = BINS if len(rows) == 1 else FEWER
        start = torch.zeros_like(most) if scheme == "symmetric" else least
        step = ((most - start) / bins).clamp(min=1e-38)[:, None]
        places = ((rows - start[:, None]) / step).long().clamp(0, bins - 1)
        counts = rows.new_zeros(len(rows), bins).scatter_add_(1, places, (rows != 0).float())
        found = Histograms(counts, start, step[:, 0])
        ends = found.best_range(least, most, bits, scheme, every=1 if len(rows) == 1 else 4)
        return uniform(*ends, bits, scheme, slices)
