from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("random")
class Random(Criterion):
    """Chance: score ~ uniform in [0, 1), from a seed and the layer's name; of a unit, the mean over its rows.

    The floor: a criterion that does no better than chance has learned nothing about this model. Needs no data; the
    same seed gives the same scores. Source: as baseline in Blalock et al. 2020, "What is the State of Neural Network
    Pruning?", arXiv 2003.03033, section 6.
    """

    title = "random"
    family = "reference"

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        out = {}
        for name in names:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{look.seed}/{name}".encode()))
            weight = subject.weight(name)
            out[name] = torch.rand(weight.shape, generator=generator).to(weight.device)
        return out

    def aggregate(self, scores: Tensor) -> Tensor:
        return scores.mean(1)
