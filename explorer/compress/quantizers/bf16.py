from __future__ import annotations

import torch

from . import registry
from ._floats import Format


@registry.register("bf16")
class Bf16(Format):
    """bfloat16: the upper half of a 32-bit float.

    w -> bfloat16(w), ties to even; 1 sign, 8 exponent and 7 fraction bits: the range of float32 with about 2.4 decimal
    digits, so nothing saturates but values within 0.4 % of the end of that range (3.39e38). No scale and no zero point. Codes: the bit
    patterns, 0 ... 65535. Bits: 16.
    Source: Kalamkar et al. 2019, arXiv 1905.12322.
    """

    title = "bf16 (bfloat16)"
    bits = (16,)
    dtype = torch.bfloat16
