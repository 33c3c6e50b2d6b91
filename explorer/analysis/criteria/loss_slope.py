from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..leave_out import unit_changes, weight_changes
from ..rows import rows_of
from . import DATA, LOSS, Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("loss-slope")
class LossSlope(Criterion):
    """Exact loss change by weight: score(u) = |L without u − L| / ‖w_u‖₂, over the size of what was taken away.

    Two units may cost the same loss while one of them moves the weights further: this is the slope of the loss between the model
    and the model without u, a secant where the gradient is a tangent. Measured as "loss-change", with its limits: up to 256
    training samples, and runs of weights. Scores have the weight's shape, in units of the loss a unit of weight.
    Source: the oracle of Molchanov et al. 2017, arXiv 1611.06440, over the norm of what is taken away.
    """

    title = "loss change by weight |ΔL|/‖Δw‖"
    family = "reference"
    needs = frozenset({DATA, LOSS})
    slow = True

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        found = {name: weight_changes(subject, name, look) for name in names}
        return {name: change.abs() / size.clamp(min=1e-12) for name, (change, size) in found.items()}

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        rows = rows_of(cut, {name: subject.weight(name) for name in cut.group.producers})
        return unit_changes(subject, cut, look).abs() / rows.cpu().double().norm(dim=1).clamp(min=1e-12)
