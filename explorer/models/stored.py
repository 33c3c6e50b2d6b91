"""In which type a tensor is stored: its own, or a narrower one of the file that it came from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .onnx_module import OnnxModule

NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
NARROW = "__narrow__"  # of a module without a forward pass: {tensor: 8-bit type}; no tensor of a file can be called so
COUNTER = 4  # bytes that an integer of 64 bits counts for: torch's counters of batches and positions need no more


def dtype_name(dtype: torch.dtype) -> str:
    """The literature's name of a type: fp32, bf16, fp8 e4m3 ..."""
    plain = str(dtype).removeprefix("torch.")
    return NAMES.get(dtype) or plain.replace("float8_", "fp8 ").removesuffix("fn")


def stored_dtype(module: nn.Module, name: str, tensor: Tensor, changed: bool = False) -> torch.dtype:
    """What a file of ``module`` holds of one of its tensors.

    An ONNX file keeps its own type, in which it also computes. 8-bit floats are computed with as bfloat16; values that are not as they came, or zero (``changed``), need that type in a file, too.
    """
    if isinstance(module, OnnxModule):
        place = module.graph.places.get(name)
        return place.dtype if place is not None else tensor.dtype
    narrow: dict[str, torch.dtype] = module.__dict__.get(NARROW, {})
    return tensor.dtype if changed else narrow.get(name, tensor.dtype)


def stored_bytes(module: nn.Module, name: str, tensor: Tensor) -> int:
    """Bytes of one entry of a parameter or a buffer."""
    size = stored_dtype(module, name, tensor).itemsize
    return size if tensor.is_floating_point() or tensor.is_complex() else min(size, COUNTER)
