"""Sums over what a product reads, and over how that meets its gradient: on a CPU in one look at memory, which is what they cost."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LITTLE = 1 << 16  # entries that torch is done with before compiled code is called
WIDE = 128  # entries that a loop goes along at once, where features are fewer
MANY = 4  # threads among which torch's own operations are faster than one that looks once


def looks_once(x: Tensor) -> bool:
    """Whether compiled code, which looks once at every value, is the fastest on this."""
    small = x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or x.numel() < LITTLE
    return not small and torch.get_num_threads() <= MANY


def moments(x: Tensor) -> Tensor:
    """float64 [4, F] of x [M, F]: sums of x, |x| and x^2 over rows, and how many are not zero."""
    x = x.detach()
    if looks_once(x):
        from . import looks  # numba takes a moment to import

        found = np.zeros((4, x.shape[1]))
        looks.moments(x.contiguous().numpy(), found)
        return torch.from_numpy(found)
    room = x * x  # one room for all: what has to be allocated costs more than what is computed
    squares = room.sum(0)
    sums = [x.sum(0), torch.abs(x, out=room).sum(0), squares, room.sign_().sum(0)]
    return torch.stack(sums).cpu().double()  # there: not every device has float64


def products(x: Tensor, y: Tensor) -> Tensor:
    """[N, F] of x, y [A, N, B, F]: sums of x y over A and B."""
    x, y = x.detach(), y.detach()
    if looks_once(x):
        from . import looks

        a, n, b, f = x.shape
        k = max(
            k for k in range(1, 1 + max(1, WIDE // max(f, 1))) if b % k == 0
        )  # few features: several places at once
        found = np.zeros((n, k * f), torch.empty(0, dtype=x.dtype).numpy().dtype)
        first, second = (one.contiguous().numpy().reshape(a, n, b // k, k * f) for one in (x, y))
        looks.products(first, second, found)
        return torch.from_numpy(found).view(n, k, f).sum(1)
    return (x * y).sum((0, 2))
