from __future__ import annotations

import torch
from torch import Tensor

from ..codes import Codes, Table
from ..slices import Slices
from . import Quantizer, registry

LEAST = -96  # exponent: below it a smallest level would not be a normal float32


@registry.register("power-of-two")
class PowerOfTwo(Quantizer):
    """Levels are 0 and the powers of two, so that multiplying is shifting.

    Levels: 0 and +-2^(E - k), k = 0 ... 2^(b-1) - 2, with E = floor(log2(4/3 max|w|)); each weight goes to the nearest one. Codes:
    -(2^(b-1) - 1) ... 2^(b-1) - 1, the sign times (the place of the exponent, counted from 1, smallest first), 0 for zero. Scale: the
    exponent E, one byte a tensor, channel, group or gate; no zero point. Levels lie close near zero and far apart at the
    ends: more bits only add ever smaller ones. Bits: 2 to 6.
    Source: Zhou et al. 2017 (INQ), arXiv 1702.03044, eq. 2 to 4; Miyashita et al. 2016, arXiv 1603.01025.
    """

    title = "power of two"
    bits = (2, 3, 4, 5, 6)
    schemes = ("symmetric",)

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        most = slices.rows(weight).float().abs().amax(1)
        _, exponent = torch.frexp(most * (4 / 3))  # x = m 2^e with m in [0.5, 1): floor(log2 x) = e - 1, exactly
        exponent = torch.where(most > 0, exponent - 1, 0).clamp(min=LEAST)
        steps = 2 ** (bits - 1) - 1
        below = torch.arange(steps - 1, -1, -1, device=weight.device)
        power = exponent[:, None] - below  # [slices, steps], ascending
        levels = torch.ldexp(torch.ones_like(power, dtype=torch.float32), power)
        centers = torch.cat([-levels.flip(1), torch.zeros_like(levels[:, :1]), levels], 1)
        edges = (centers[:, 1:] + centers[:, :-1]) / 2
        return Table(bits, "power-of-two", slices, centers, edges, first=-steps, stored=1)
