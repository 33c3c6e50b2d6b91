from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..second_order import hessian_gradient
from . import DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("grasp")
class GraSP(Criterion):
    """Gradient signal preservation: score(w) = w · (Hg), H the Hessian and g the gradient of the mean loss; of a unit, the sum.

    −w·Hg is half the change of ‖g‖², how strongly the rest can still learn, when the weight goes. What would increase
    it has a negative score and goes first. Made for networks before training; on a trained one, where g is nearly zero, it
    is mostly noise, and the comparison shows it. The paper's score has the other sign. Scores have the weight's shape and may be
    negative. Needs training samples and a loss that is twice differentiable; two passes.
    Source: Wang et al. 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow", arXiv 2002.07376.
    """

    title = "GraSP w·(Hg)"
    family = "second order"
    needs = frozenset({DATA, GRADIENTS})

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        found = hessian_gradient(subject, look)
        return {name: subject.weight(name) * found[name].to(subject.weight(name).device) for name in names}
