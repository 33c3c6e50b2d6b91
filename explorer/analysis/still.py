"""Batch normalization whose statistics stand still: backward it is one multiplication, where PyTorch adds up what nobody asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def still(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """F.batch_norm; where it has statistics and nothing but its input may need a gradient, one that goes backward cheaply, and once."""
    asked = any(one is not None and one.requires_grad for one in (weight, bias, running_mean, running_var))
    if (
        training
        or asked
        or running_mean is None
        or running_var is None
        or not input.requires_grad
        or not torch.is_grad_enabled()
    ):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return Scaled.apply(input, running_mean, running_var, weight, bias, eps)  # type: ignore[no-any-return,no-untyped-call]


class Scaled(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps) w + b, dL/dx = dL/dy w / sqrt(variance + eps)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        scale = torch.rsqrt(variance + eps)
        ctx.scale = (scale if weight is None else scale * weight).view(-1, *(1 for _ in x.shape[2:]))
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor) -> Any:  # type: ignore[override]
        return of_out * ctx.scale, None, None, None, None, None
