"""A tensor as the bit patterns of its entries, and their counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..models.subject import Subject
from .patterns import COUNTED, WIDE, WORDS, as_float32
from .tally import Tally, tally

BLOCK = 1 << 20  # entries
FORMATS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.uint16: "U16",
    torch.uint32: "U32", torch.uint64: "U64", torch.complex64: "C64",
}  # fmt: skip
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def format_of(tensor: Tensor) -> str:
    """safetensors' name of a tensor's type; "" for types that have none there."""
    return FORMATS.get(tensor.dtype, "")


def words_of(tensor: Tensor, start: int, n: int) -> np.ndarray:
    """``n`` entries from ``start`` on, flat, as unsigned integers of their bits; memory is shared where the tensor is contiguous."""
    flat = tensor.detach().reshape(-1)[start : start + n].cpu().contiguous()
    return flat.view(INTEGERS[tensor.element_size()]).numpy().view(WORDS[format_of(tensor)])


def blocks_of(tensor: Tensor) -> Iterator[np.ndarray]:
    """All entries, a few at a time, as what is counted."""
    flat = tensor.detach().reshape(-1)
    return (as_float32(words_of(flat, at, BLOCK), format_of(tensor)) for at in range(0, flat.numel(), BLOCK))


def tally_of(tensor: Tensor) -> Tally | None:
    """The entries of a tensor counted by their bits; None for types that are not counted."""
    from . import counting  # compiled code, which only large layers are worth

    dtype = format_of(tensor)
    if dtype not in COUNTED:
        return None
    if dtype in WIDE:
        return tally(dtype, *counting.leading(blocks_of(tensor)))
    return tally(dtype, counting.patterns(blocks_of(tensor), tensor.element_size()))


def inside_of(tensor: Tensor, key: int) -> np.ndarray:
    """int64 [65536]: of a wide tensor's entries with the leading magnitude bits ``key``, how often each rest occurs."""
    from . import counting

    return counting.inside(blocks_of(tensor), key)


def layer_tally(subject: Subject, name: str) -> Tally | None:
    """Of a layer's weight; kept."""
    return subject.memo.get(tally_key(subject, name), lambda: tally_of(subject.weight(name)))


def tally_key(subject: Subject, name: str) -> tuple[object, ...]:
    """Under which a subject keeps a layer's tally; whoever has counted its file already may put it there."""
    return ("tally", subject.version, name)
