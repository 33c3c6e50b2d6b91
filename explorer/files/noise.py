"""Inputs for a model that came without any: noise, on which a model can be run, and about which nothing can be concluded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.errors import TaskError
from ..core.message import say
from ..models.task import Task

WARNING = say("The inputs are noise: figures on noise say nothing about accuracy on real data")
MOST = 1 << 28  # entries of all inputs together


def noise_task(shape: Sequence[int], *, samples: int = 256, vocabulary: int | None = None, seed: int = 0) -> Task:
    """Agreement with the original's own outputs on noise: standard normal inputs [samples, *shape], or, with ``vocabulary``, whole
    numbers below it.

    It shows whether a compressed model runs and how far its outputs move on noise. Figures on noise say nothing about accuracy: real inputs lie
    elsewhere, and so do the activations that pruning and calibration look at. Train and validation are drawn apart. Raises :class:`TaskError`.
    """
    sizes = tuple(shape)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (*sizes, samples, vocabulary or 1))
    entries = torch.Size(sizes).numel() * samples if whole else 0
    if not whole or 2 * entries > MOST:
        raise TaskError(
            say(
                "shape={shape}, samples={samples}, vocabulary={vocabulary}; accepted: whole numbers above 0, together at most {most:,} values",
                shape=str(sizes)[:80], samples=samples, vocabulary=vocabulary, most=MOST // 2,
            )
        )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        if vocabulary:
            return torch.randint(vocabulary, (samples, *sizes), generator=generator)
        return torch.randn(samples, *sizes, generator=generator)

    return Task.agreement(draw(), train=draw())
