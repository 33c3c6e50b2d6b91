from __future__ import annotations

import torch

from . import registry
from ._floats import Scaled


@registry.register("fp8-e5m2")
class Fp8E5M2(Scaled):
    """8-bit float with 5 exponent and 2 fraction bits.

    w -> float8_e5m2(clamp(w / scale, -57344, 57344)) * scale, ties to even, saturating, with scale = max|w| / 57344, one a tensor,
    channel, group or gate; no zero point. Relative steps of 1/4 between powers of two: more range and less precision than
    e4m3. Codes: the bit patterns, 0 ... 255. Bits: 8.
    Source: Micikevicius et al. 2022, arXiv 2209.05433, table 1.
    """

    title = "fp8 e5m2"
    dtype = torch.float8_e5m2
