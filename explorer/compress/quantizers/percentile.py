from __future__ import annotations

from torch import Tensor

from ..codes import Codes
from ..ranges import quantile, uniform
from ..slices import Slices
from . import Quantizer, registry

KEPT = 0.999  # of the weights lie within the range


@registry.register("percentile")
class Percentile(Quantizer):
    """Uniform quantization over the middle 99.9 % of the (pruned) weights; the few beyond it are clipped.

    Symmetric: max|w| of min-max becomes the 99.9th percentile of |w|, over the weights that are not zero. Affine: the range
    runs from the 0.05th to the 99.95th percentile, widened to include 0. Scale, zero point and codes follow from the range
    as for min-max: scale = range / (2^b - 1) (symmetric: half of it / (2^(b-1) - 1)); one a tensor, channel, group or gate.
    A range without its outliers has finer steps. Bits: 2 to 8.
    Source: McKinstry et al. 2018, arXiv 1809.04191, section 3; Wu et al. 2020, arXiv 2004.09602, section 4.
    """

    title = "percentile"
    searches = True

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        rows = slices.rows(weight).float()
        if scheme == "symmetric":
            most = quantile(rows.abs(), KEPT)
            return uniform(-most, most, bits, scheme, slices)
        out = (1 - KEPT) / 2
        return uniform(quantile(rows, out), quantile(rows, 1 - out), bits, scheme, slices)
