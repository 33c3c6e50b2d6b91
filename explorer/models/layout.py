"""The order in memory of images: channels last is what a CPU's convolutions are fastest with, forward and above all backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def to_channels_last(tensor: Tensor) -> Tensor:
    """[N, C, H, W] with strides that say so also where C is 1, which ``contiguous`` leaves as they are: kernels go by them."""
    if tensor.stride() == torch.empty(tensor.shape, device="meta", memory_format=torch.channels_last).stride():
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device, memory_format=torch.channels_last).copy_(
        tensor
    )


def channels_last(tensor: Tensor) -> bool:
    """Whether it lies in memory as images with channels last, and not as others too."""
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def laid_out(value: Any, last: bool) -> Any:
    """Image tensors within collated inputs in the layout."""
    if last and isinstance(value, Tensor) and value.ndim == 4:
        return to_channels_last(value)
    if isinstance(value, dict):
        return {key: laid_out(one, last) for key, one in value.items()}
    if type(value) in (tuple, list):
        return type(value)(laid_out(one, last) for one in value)
    return value
