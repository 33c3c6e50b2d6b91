from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..rows import rows_of
from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("fpgm")
class GeometricMedian(Criterion):
    """Geometric median: score(u) = Σ over units v of ‖u − v‖₂; units near the median of all are replaceable.

    u is the unit's rows in every layer that produces it, as one vector. A filter that resembles the others can be stood in
    for by them, however large it is. One score a unit; not defined for single weights. Needs no data.
    Source: He et al. 2019, "Filter Pruning via Geometric Median", arXiv 1811.00250.
    """

    title = "geometric median (FPGM)"
    of_weights = False

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        rows = rows_of(cut, {name: subject.weight(name) for name in cut.group.producers}).cpu().double()
        return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
