from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...core.message import say
from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("bn-scale")
class BatchNormScale(Criterion):
    """BatchNorm scale: score(u) = |γ| of the channel's normalization; where a channel passes several, their sum.

    BatchNorm gives every channel unit variance and then multiplies it by γ, so |γ| is how loud the channel is. It
    says most when training pushed γ towards zero (an l1 penalty), which Network Slimming does. One score a unit; not
    defined for single weights, nor for units without BatchNorm. Needs no data.
    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", arXiv 1708.06519, section 3.
    """

    title = "BatchNorm scale |γ|"
    of_weights = False

    def why_not(self, subject: Subject, name: str) -> str | None:
        if not _scales(subject, subject.structure.cuts[name]):
            return say("the units of {group} pass no BatchNorm with a scale; l1, l2 or taylor would do", group=name)
        return None

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        found = [scale[index.to(scale.device)].abs().sum(1) for scale, index in _scales(subject, cut)]
        return torch.stack(found).sum(0)


def _scales(subject: Subject, cut: Cut) -> list[tuple[Tensor, Tensor]]:
    """(γ, index [units, k]) of every BatchNorm that the group's units pass."""
    out = []
    for piece in cut.slices:
        owner, _, name = piece.tensor.rpartition(".")
        if piece.role == "follower" and name == "weight":
            module = subject.module.get_submodule(owner)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                out.append((module.weight.detach(), piece.index))
    return out
