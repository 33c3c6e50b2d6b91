from __future__ import annotations

import torch
from torch import Tensor

from ..codes import Codes, Table
from ..ranges import mean
from ..slices import Slices
from . import Quantizer, registry


@registry.register("ternary")
class Ternary(Quantizer):
    """Three levels: -a, 0 and a (ternary weight networks).

    A threshold D = 0.7 mean|w| separates zero from the others, the scale a is the mean of |w| over |w| > D; both means over the
    weights that are not pruned. Codes: -1, 0, 1; scale: one a tensor, channel, group or gate; no zero point. Weights
    between -D and D become zeros, so it prunes as well. Bits: 2, of which three of the four codes are used.
    Source: Li et al. 2016 (TWN), arXiv 1605.04711, section 2.
    """

    title = "ternary"
    bits = (2,)
    schemes = ("symmetric",)

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        size = slices.rows(weight).float().abs()
        border = 0.7 * size.sum(1) / (size > 0).sum(1).clamp(min=1)
        large = size > border[:, None]
        scale = mean(size, large)
        centers = torch.stack([-scale, torch.zeros_like(scale), scale], 1)
        return Table(bits, "ternary", slices, centers, torch.stack([-border, border], 1), first=-1)
