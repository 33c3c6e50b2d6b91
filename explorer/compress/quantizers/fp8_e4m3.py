from __future__ import annotations

import torch

from . import registry
from ._floats import Scaled


@registry.register("fp8-e4m3")
class Fp8E4M3(Scaled):
    """8-bit float with 4 exponent and 3 fraction bits.

    w -> float8_e4m3fn(clamp(w / scale, -448, 448)) * scale, ties to even, saturating, with scale = max|w| / 448, one a tensor, channel,
    group or gate; no zero point. Relative steps of 1/8 between powers of two, the smallest positive level is 2^-9 scale.
    Codes: the bit patterns, 0 ... 255; there are no infinities. Bits: 8.
    Source: Micikevicius et al. 2022, arXiv 2209.05433, table 1.
    """

    title = "fp8 e4m3"
    dtype = torch.float8_e4m3fn
