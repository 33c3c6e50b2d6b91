"""Weights of half precision are trained as float32 copies that the optimizer keeps beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MASTER = "master"  # its name in the optimizer's state, so that a checkpoint holds it and what clears the state clears it
HALVES = (torch.float16, torch.bfloat16)


def widened(optimizer: Optimizer) -> Optimizer:
    """``optimizer``, which moves parameters of float16 and bfloat16 in float32 and lets them hold the rounded result.

    A step is often smaller than half of the distance to the next number of such a type, and would be lost; squares of gradients and Adam's eps
    vanish in float16. What others wrote to a parameter between two steps holds (zeros, codebooks). Source: Micikevicius et al. 2018, "Mixed
    Precision Training", arXiv 1710.03740, section 3.1.
    """
    narrow: dict[nn.Parameter, tuple[Tensor, bool]] = {}  # what the module holds while the optimizer is at the copies; whether it moves them

    def wide(*_: Any) -> None:
        for one in _halves(optimizer):
            grad = None if one.grad is None else one.grad.float()
            narrow[one], one.grad = (one.data, grad is not None), None
            one.data = _master(one, optimizer.state.get(one, {}).get(MASTER))
            one.grad = grad

    def back(*_: Any) -> None:
        for one, (before, moved) in narrow.items():
            master, one.grad = one.data, None
            one.data = before
            if moved:  # the state of others is the optimizer's to begin
                optimizer.state[one][MASTER] = master
                with torch.no_grad():
                    one.copy_(master)
        narrow.clear()

    def undo(*_: Any) -> None:
        for one, (before, _moved) in narrow.items():
            one.data = before
        narrow.clear()

    if any(True for _ in _halves(optimizer)):
        optimizer.register_step_pre_hook(wide)
        optimizer.register_step_post_hook(back)
        optimizer.register_load_state_dict_pre_hook(wide)  # torch casts what it loads to the parameter's type
        optimizer.register_load_state_dict_post_hook(undo)
    return optimizer


def _halves(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    for group in optimizer.param_groups:
        yield from (one for one in group["params"] if one.dtype in HALVES)


def _master(parameter: Tensor, kept: Tensor | None) -> Tensor:
    """The copy as it was left, and the parameter where that says something else by now."""
    now = parameter.detach()
    return now.float() if kept is None else torch.where(kept.to(now.dtype) == now, kept, now.float())
