"""What the bits of a number stand for, format by format: the value of every pattern, and the words that hold them.

Formats have the names of safetensors. Sources: OCP 8-bit Floating Point Specification 1.0 (E4M3, E5M2); OCP Microscaling
Formats 1.0 (E8M0); Noune et al. 2022, arXiv 2206.02915 (the FNUZ formats, without a negative zero and infinities).
"""

from __future__ import annotations

from functools import cache

import numpy as np

WORDS = {
    "F64": "<u8", "F32": "<u4", "BF16": "<u2", "F16": "<u2", "I16": "<u2", "U16": "<u2", "I8": "u1", "U8": "u1", "F8_E4M3": "u1",
    "F8_E5M2": "u1", "F8_E4M3FNUZ": "u1", "F8_E5M2FNUZ": "u1", "F8_E8M0": "u1", "BOOL": "u1", "I32": "<u4", "U32": "<u4", "I64": "<u8",
    "U64": "<u8",
}  # fmt: skip
WIDE = ("F32", "F64")  # more patterns than can be counted one by one
INTEGERS = {"I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8"}  # places and steps, not weights: never counted
COUNTED = frozenset(WORDS) - frozenset(INTEGERS)


def small(exponent: int, fraction: int, bias: int) -> np.ndarray:
    """float32 [256]: sign, ``exponent`` and ``fraction`` bits; exponent 0 is subnormal. No pattern is special."""
    bits = np.arange(256)
    power, part = (bits >> fraction) & ((1 << exponent) - 1), bits & ((1 << fraction) - 1)
    size = np.where(
        power == 0, part / 2**fraction * 2.0 ** (1 - bias), (1 + part / 2**fraction) * 2.0 ** (power - bias)
    )
    return np.where(bits & 128, -size, size).astype(np.float32)


@cache
def values(dtype: str) -> np.ndarray:
    """float32 [256 or 65536]: what each pattern of a format of 8 or 16 bits stands for, exactly."""
    if dtype == "BF16":
        return (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    if dtype in ("F16", "I16", "U16"):
        words = np.arange(1 << 16, dtype=np.uint16)
        return words.view({"F16": np.float16, "I16": np.int16, "U16": np.uint16}[dtype]).astype(np.float32)
    octets = np.arange(256, dtype=np.uint8)
    if dtype in ("I8", "U8", "BOOL"):
        return octets.view(np.int8 if dtype == "I8" else np.uint8).astype(np.float32)
    if dtype == "F8_E5M2":
        return (octets.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "F8_E8M0":
        return np.where(octets == 255, np.nan, 2.0 ** (octets.astype(np.float64) - 127)).astype(np.float32)
    if dtype == "F8_E4M3":
        return np.where((octets & 127) == 127, np.float32(np.nan), small(4, 3, 7))
    if dtype in ("F8_E4M3FNUZ", "F8_E5M2FNUZ"):
        table = small(4, 3, 8) if dtype == "F8_E4M3FNUZ" else small(5, 2, 16)
        return np.where(octets == 128, np.float32(np.nan), table)
    raise KeyError(dtype)


def decoded(words: np.ndarray, dtype: str) -> np.ndarray:
    """What words of a format stand for: float32, or float64 where that is needed."""
    if dtype == "BF16":
        return (words.astype(np.uint32) << 16).view(np.float32)
    if dtype in WIDE:
        return words.view(np.float32 if dtype == "F32" else np.float64)
    if dtype in INTEGERS:
        return words.view(INTEGERS[dtype]).astype(np.float64)
    return values(dtype)[words]


def as_float32(words: np.ndarray, dtype: str) -> np.ndarray:
    """Words of F64 as those of the nearest float32; all others as they are."""
    if dtype != "F64":
        return words
    with np.errstate(over="ignore"):
        return words.view(np.float64).astype(np.float32).view(np.uint32)
