from __future__ import annotations

import torch
from torch import Tensor

from ..codes import Codes
from ..ranges import FACTORS, clipped, code_range, reach, uniform
from ..slices import Slices
from . import Quantizer, registry


@registry.register("mse")
class MeanSquaredError(Quantizer):
    """Uniform quantization over the range that loses least: rounding error and clipping error in balance.

    Of the thresholds t = 1.00, 0.99, ... 0.01 times max|w|, the one with the smallest sum of (w - q(w))^2 is taken, for each
    slice by itself; the range of the (pruned) weights is cut to [-t, t]. Scale, zero point and codes follow from the range as for min-max:
    scale = range / (2^b - 1) (symmetric: half of it / (2^(b-1) - 1)); one a tensor, channel, group or gate. At few bits it
    clips a good part of the tails. Bits: 2 to 8.
    Source: Nagel et al. 2021, arXiv 2106.08295, section 3.1; Banner et al. 2019, arXiv 1810.05723.
    """

    title = "least squares"
    searches = True

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        rows = slices.rows(weight).float()
        least, most = reach(rows, scheme)
        low, high = code_range(bits, scheme)
        best = torch.full_like(most, torch.inf)
        factor = torch.ones_like(most)
        for one in FACTORS:
            tried = uniform(*clipped(least, most, one), bits, scheme, slices)
            scale, zero = tried.scale.reshape(-1, 1), tried.zero_point.reshape(-1, 1)
            found = torch.round(rows * (1.0 / scale)).add_(zero).clamp_(low, high).sub_(zero).mul_(scale)
            error = found.sub_(rows).square_().sum(1)
            factor = torch.where(error < best, one, factor)
            best = torch.minimum(best, error)
        return uniform(*clipped(least, most, factor), bits, scheme, slices)
