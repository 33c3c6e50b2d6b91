"""Weights that were quantized before: rounding them again must change no bit."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models.device import precise
from .codes import Codes, Uniform

ROUNDING = 1e-6  # relative: what float32 loses in a scale


def settled(weight: Tensor, codes: Codes) -> Codes:
    """``codes``, their scales corrected in the last place where ``weight`` lies on their grid already.

    The largest value over its code is the scale from which it was made only up to float32's rounding; so a trained, quantized
    model would come out of a second rounding as a slightly different one. weight: finite, removed units gone.
    """
    if not isinstance(codes, Uniform) or weight.dtype != torch.float32 or not weight.numel():
        return codes
    once = codes.fake_quantize(weight)
    if torch.equal(once, weight) or not bool(((once - weight).abs() <= ROUNDING * weight.abs()).all()):
        return codes
    rows = codes.slices.rows(weight).to(precise(weight.device))
    steps = codes.slices.rows(codes.integers(weight) - codes.slices.spread(codes.zero_point, weight)).to(rows.device)
    taken, size, k = rows != 0, rows.abs(), steps.abs().double().clamp(min=1)
    # the scales s with float32(k s) = v are an interval for each v; what the intervals have in common is the answer
    ends = [torch.nextafter(size, torch.full_like(size, end)).double() for end in (0.0, torch.inf)]
    least = torch.where(taken, (size.double() + ends[0]) / 2 / k, 0.0).amax(1)
    most = torch.where(taken, (size.double() + ends[1]) / 2 / k, torch.inf).amin(1)
    found = torch.where(most.isfinite(), (least + most) / 2, 1.0).float()
    made = replace(codes, scale=found.to(weight.device).reshape(codes.scale.shape))
    return made if torch.equal(made.fake_quantize(weight), weight) else codes
