from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..leave_out import unit_changes, weight_changes
from . import DATA, LOSS, Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("loss-change")
class LossChange(Criterion):
    """Exact loss change: score(u) = |L without u − L|, by really leaving the unit out and running the training samples again.

    What all the other criteria approximate: the oracle, for one unit at a time. It costs a forward pass a unit, so it looks at
    no more than 256 samples. Of weights: up to 256 runs of neighbouring weights a layer are left out, one after another, and
    each weight has its run's change over the run's length; layers of up to 256 weights are exact. Scores have the weight's
    shape, in units of the loss. Needs training samples and a loss, but no gradients.
    Source: Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference", arXiv 1611.06440
    (oracle-abs).
    """

    title = "exact loss change |ΔL|"
    family = "reference"
    needs = frozenset({DATA, LOSS})
    slow = True

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        return {name: weight_changes(subject, name, look)[0].abs() for name in names}

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        return unit_changes(subject, cut, look).abs()
