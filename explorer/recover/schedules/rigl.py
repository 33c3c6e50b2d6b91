from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...compress.masks import lowest
from ..checks import between, count
from . import Schedule, registry
from ._goals import goals, no_regrow, step_at

if TYPE_CHECKING:
    from ..run import Run


@registry.register("rigl")
@dataclass(frozen=True)
class RigL(Schedule):
    """The sparsity stays, and the mask moves: the smallest weights are dropped, and as many grow where the gradient is
    largest.

    Training begins with the recipe's own cut. Every ``every`` steps, up to ``until`` of them all, in each layer the
    k = α/2 · (1 + cos(π t / T)) · (weights that are there) with the smallest |w| go, α = ``alpha`` and T being the
    last such step, and of the entries that are zero by then the k with the largest |∂L/∂w| take their place,
    starting at zero. The gradient is that of the batch of the same step. Rules for blocks, gates, N:M patterns and
    units are cut at the start and stay.
    Source: Evci et al. 2020, "Rigging the Lottery", arXiv 1911.11134, section 3, algorithm 1.
    """

    title = "dynamic regrowth (RigL)"
    labels = {
        "alpha": "Share that moves, α",
        "every": "Steps between moves",
        "until": "Moves end at",
    }

    alpha: float = 0.3
    every: int = 100
    until: float = 0.75

    def __post_init__(self) -> None:
        between("alpha", self.alpha)
        between("until", self.until)
        count("every", self.every)

    def begin(self, run: Run) -> None:
        no_regrow(run, "rigl")

    def _layers(self, run: Run) -> list[str]:
        return [name for goal in goals(run) if goal.rule.granularity == "weight" for name in goal.layers]

    def _due(self, run: Run) -> bool:
        return run.step % self.every == 0 and run.step <= step_at(run, self.until)

    def gradients(self, run: Run) -> None:
        if self._due(run):
            found = {name: run.weights[name].grad for name in self._layers(run) if name in run.hold.masks}
            run.scratch["rigl"] = {
                name: torch.nan_to_num(one.detach().float().abs()) for name, one in found.items() if one is not None
            }

    def after_step(self, run: Run) -> None:
        if not self._due(run):
            return
        masks, weights = run.masks, run.weights
        for name, gradient in run.scratch.pop("rigl").items():
            masks[name], grown = moved_mask(masks[name], weights[name].detach(), gradient, self.fraction(run))
            for value in (weights[name].data, *run.optimizer.state[weights[name]].values()):
                if (
                    isinstance(value, Tensor) and value.shape == grown.shape
                ):  # what an optimizer remembers was another weight's
                    value.masked_fill_(grown, 0.0)
        run.set_masks(masks)

    def fraction(self, run: Run) -> float:
        """The share of a layer's weights that moves at this step."""
        return self.alpha / 2 * (1 + math.cos(math.pi * run.step / max(step_at(run, self.until), 1)))


def moved_mask(mask: Tensor, weight: Tensor, gradient: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """(the mask after a move, where it has grown): k of its entries go and k come, k = round(fraction · entries), as
    far as there is room.
    """
    there = int(mask.sum())
    k = min(round(fraction * there), mask.numel() - there)
    stays = mask & ~lowest(weight.abs().masked_fill(~mask, torch.inf), k)
    grown = lowest((-gradient).masked_fill(stays, torch.inf), k)
    return stays | grown, grown
