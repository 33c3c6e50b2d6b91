from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...models.device import place, precise
from ..rows import rows_of
from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("lamp")
class Lamp(Criterion):
    """Layer-adaptive magnitude: score(w) = w² / Σ v² over the weights v of the layer with |v| ≥ |w|.

    The largest weight of every layer scores 1, so that one global ranking cannot empty a layer of small weights.
    Within a layer it ranks as l1 does. Of a unit: the same formula over the units' squared norms. Scores lie in (0, 1]
    and have the weight's shape. Needs no data.
    Source: Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning", arXiv 2010.07611.
    """

    title = "LAMP"

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        return {name: normalized(subject.weight(name).square()) for name in names}

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        rows = rows_of(cut, {name: subject.weight(name) for name in cut.group.producers})
        return normalized(rows.square().sum(1))


def normalized(squares: Tensor) -> Tensor:
    """Each entry over the sum of those that are not smaller; ties share a sum; 0 where all are 0."""
    flat = place(squares.flatten(), precise(squares.device), torch.float64)
    ordered, where = flat.sort()
    above = ordered.flip(0).cumsum(0).flip(0)  # sums of everything from here up
    first = torch.searchsorted(ordered, ordered)  # of equal entries the lowest place
    found = torch.zeros_like(flat)
    found[where] = ordered / above[first].clamp(min=torch.finfo(torch.float64).tiny)
    return place(found.view(squares.shape), squares.device)
