from __future__ import annotations

import torch
from torch import Tensor

from . import Codes, Quantizer, registry


@registry.register("minmax")
class MinMax(Quantizer):
    """Uniform quantization over the full range of the (pruned) weights.

    Symmetric: scale = max|w| / (2^(b-1) - 1), zero point 0, codes -(2^(b-1) - 1) ... 2^(b-1) - 1.
    Affine: the range [min, max] widened to include 0, scale = (max - min) / (2^b - 1),
    zero point = round(-min / scale), codes 0 ... 2^b - 1. A slice of zeros has scale 1. Zero is always a level, so
    pruned weights stay exactly zero. Scale and zero point: one a tensor, or one an output channel.
    Source: Jacob et al. 2018, arXiv 1712.05877, eq. 1; Nagel et al. 2021, arXiv 2106.08295, section 2.
    """

    title = "min-max"

    def fit(self, weight: Tensor, bits: int, scheme: str, axis: int | None) -> Codes:
        rows = weight.reshape(1, -1) if axis is None else weight.movedim(axis, 0).flatten(1)
        rows = rows.float()
        if scheme == "symmetric":
            high = 2 ** (bits - 1) - 1
            low = -high
            scale = rows.abs().amax(1) / high
            zero = torch.zeros_like(scale, dtype=torch.int32)
        else:
            low, high = 0, 2**bits - 1
            least, most = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
            scale = (most - least) / high
            safe = torch.where(scale > 0, scale, torch.ones_like(scale))
            zero = torch.round(-least / safe).clamp(low, high).int()
        # a slice of zeros, or of values so small that their step underflows, has nothing to resolve
        scale = torch.where(1.0 / scale < torch.inf, scale, torch.ones_like(scale))
        if axis is None:
            scale, zero = scale[0], zero[0]
        return Codes(bits, scheme, scale, zero, low, high, axis)
