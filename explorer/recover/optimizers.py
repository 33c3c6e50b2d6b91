"""Optimizers by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..models.stack import RecurrentStack
from .masters import widened
from .settings import Settings

RECURRENT = (nn.RNNBase, nn.RNNCellBase, RecurrentStack)
CLIP = 1.0  # largest norm of a recurrent model's gradient; Pascanu et al. 2013, arXiv 1211.5063


def optimizer_of(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """A new optimizer; weight decay is for tensors of two or more dimensions, not for biases and norms; half precision is
    moved in float32."""
    trained = [one for one in module.parameters() if one.requires_grad]
    decays = [one for one in trained if one.ndim > 1]
    groups: list[dict[str, Any]] = [
        {"params": decays, "weight_decay": settings.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return widened(torch.optim.SGD(groups, settings.rate, momentum=settings.momentum))
    if settings.optimizer == "rmsprop":
        return widened(torch.optim.RMSprop(groups, settings.rate, momentum=settings.momentum))
    return widened((torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW)(groups, settings.rate))


def clip_of(module: nn.Module, settings: Settings) -> float:
    """The largest norm of the gradient; 0 where it is not clipped."""
    if settings.clip is not None:
        return settings.clip
    return CLIP if any(isinstance(one, RECURRENT) for one in module.modules()) else 0.0
