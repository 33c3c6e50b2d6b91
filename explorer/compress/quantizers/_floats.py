"""What the floating-point formats share."""

from __future__ import annotations

import torch
from torch import Tensor

from ..codes import Codes, Float
from ..slices import Slices
from . import Quantizer


class Format(Quantizer):
    """A format without parameters."""

    dtype: torch.dtype
    schemes = ("symmetric",)
    granularities: tuple[str, ...] = ("tensor",)

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        return Float(bits, "float", slices, self.dtype)


class Scaled(Format):
    """An 8-bit format, scaled so that max|w| becomes its largest value."""

    bits = (8,)
    granularities = Quantizer.granularities

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        scale = slices.rows(weight).float().abs().amax(1) / torch.finfo(self.dtype).max
        scale = torch.where(1.0 / scale < torch.inf, scale, torch.ones_like(scale))
        return Float(bits, "float", slices, self.dtype, scale.reshape(slices.parameters))
