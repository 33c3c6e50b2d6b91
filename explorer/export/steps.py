"""Codes of a weight as numbers of steps: value = (code - zero) * scale, whatever quantizer found them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..compress.codes import Codes, Float, Uniform
from ..compress.plan import LayerPlan


@dataclass(frozen=True, eq=False)
class Steps:
    """value = (code - zero) * scale; all of the weight's shape or broadcasting against it.

    code: whole numbers from low to high for uniform grids, ternary and binary; else the few values that a scale
    multiplies (floats of a format, powers of two). scale: one number an entry. parameters: scales, one a slice.
    """

    code: Tensor
    zero: Tensor
    scale: Tensor
    parameters: Tensor
    low: int
    high: int

    @property
    def whole(self) -> bool:
        """Whether every code is a whole number between low and high."""
        return bool((self.code == self.code.round()).all()) and self.low <= self.high


@torch.no_grad()
def steps_of(codes: Codes, weight: Tensor) -> Steps | None:
    """Of a pruned weight in the shape that remains; None for codebooks that differ between slices.

    A table is divided by the largest value of its slice, which leaves the same few numbers for all slices where a
    scale is all that differs (binary, ternary, powers of two).
    """
    integers = codes.integers(weight)
    nothing = torch.zeros((), dtype=torch.int32, device=weight.device)
    if isinstance(codes, Uniform):
        zero = codes.slices.spread(codes.zero_point, integers)
        scale = codes.slices.spread(codes.scale, weight)
        return Steps(integers, zero, scale, codes.scale, codes.low, codes.high)
    if isinstance(codes, Float) and codes.scale is not None:
        bits = integers.to(torch.uint8) if codes.bits == 8 else integers.to(torch.int16)
        return Steps(
            bits.view(codes.dtype).float(), nothing, codes.slices.spread(codes.scale, weight), codes.scale, 0, -1
        )
    values = codes.fake_quantize(weight).float()
    most = codes.slices.rows(values).abs().amax(1)
    parameters = torch.where(most > 0, most, torch.ones_like(most)).reshape(codes.slices.parameters)
    scale = codes.slices.spread(parameters, values)
    code = values / scale
    found = torch.unique(code)
    if len(found) > 2 * 2**codes.bits:
        return None
    if set(found.tolist()) <= {-1.0, 0.0, 1.0}:
        return Steps(code, nothing, scale, parameters, -1, 1)
    if codes.slices.axis is None:  # one table needs no scale
        return Steps(values, nothing, torch.ones_like(scale), torch.ones_like(parameters), 0, -1)
    return Steps(code, nothing, scale, parameters, 0, -1)


def pruned(plan: LayerPlan, weight: Tensor) -> Tensor:
    """What a layer's codes are about: the weight masked or shrunk, without removed units, where the plan's codes lie."""
    return plan.remaining(plan.before_quantization(weight))
