from __future__ import annotations

import torch
from torch import Tensor

from ..codes import Codes, Table
from ..ranges import mean
from ..slices import Slices
from . import Quantizer, registry


@registry.register("binary")
class Binary(Quantizer):
    """Two levels: every weight becomes its sign times the mean of |w|.

    w -> a sign(w) with the scale a = mean|w| over the weights that are not pruned, which is the a of least squared error.
    Codes: 0 for -a, 1 for a; scale: one a tensor, channel, group or gate; no zero point. Zero is no level: pruned weights stay
    exactly zero and are stored by their places, the one bit is that of the others. Bits: 1.
    Source: Rastegari et al. 2016 (XNOR-Net), arXiv 1603.05279, eq. 6.
    """

    title = "binary"
    bits = (1,)
    schemes = ("symmetric",)

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        size = slices.rows(weight).float().abs()
        scale = mean(size, size > 0)
        centers = torch.stack([-scale, scale], 1)
        return Table(bits, "binary", slices, centers, torch.zeros_like(scale)[:, None], sparse=True)
