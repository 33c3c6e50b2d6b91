from __future__ import annotations

import torch

from . import registry
from ._floats import Format


@registry.register("fp16")
class Fp16(Format):
    """Half precision: each weight is cast to the nearest 16-bit float (IEEE 754 binary16).

    w -> float16(clamp(w, -65504, 65504)), ties to even, saturating instead of overflowing; 1 sign, 5 exponent and 10 fraction bits:
    about 3.3 decimal digits, the smallest positive value is 6.0e-8. No scale and no zero point. Codes: the bit patterns,
    0 ... 65535. Bits: 16.
    Source: IEEE 754-2008, binary16; Micikevicius et al. 2018, arXiv 1710.03740.
    """

    title = "fp16 (half precision)"
    bits = (16,)
    dtype = torch.float16
