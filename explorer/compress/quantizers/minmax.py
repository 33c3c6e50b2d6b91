from __future__ import annotations

from torch import Tensor

from ..codes import Codes
from ..ranges import uniform
from ..slices import Slices
from . import Quantizer, registry


@registry.register("minmax")
class MinMax(Quantizer):
    """Uniform quantization over the full range of the (pruned) weights.

    Symmetric: scale = max|w| / (2^(b-1) - 1), zero point 0, codes -(2^(b-1) - 1) ... 2^(b-1) - 1.
    Affine: the range [min, max] widened to include 0, scale = (max - min) / (2^b - 1),
    zero point = round(-min / scale), codes 0 ... 2^b - 1. A slice of zeros has scale 1. Zero is always a level, so
    pruned weights stay exactly zero. Scale and zero point: one a tensor, an output channel, a group or a gate. Bits: 2 to 8.
    Source: Jacob et al. 2018, arXiv 1712.05877, eq. 1; Nagel et al. 2021, arXiv 2106.08295, section 2.
    """

    title = "min-max"

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        rows = slices.rows(weight).float()
        return uniform(rows.amin(1), rows.amax(1), bits, scheme, slices)
