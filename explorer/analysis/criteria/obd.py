from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..second_order import hessian_diagonal
from . import DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("obd")
class OptimalBrainDamage(Criterion):
    """Optimal Brain Damage: score(w) = ½ |h| w², h = ∂²L/∂w², the Hessian's diagonal; of a unit, the sum over its rows.

    At a minimum the gradient is zero, so the loss changes by the curvature: ½ h w². The diagonal is estimated by Hutchinson's
    method, h ≈ mean over 8 random signs z of z · (Hz), which is right on average; noise and what lies beside the minimum can
    make it negative, so its size is taken. Scores have the weight's shape, in units of the loss. Needs training samples and a
    loss that is twice differentiable; 8 passes of gradients of gradients, the slowest of the gradient criteria.
    Source: LeCun et al. 1990, "Optimal Brain Damage", NIPS 2; Hutchinson 1990 for the estimate of the diagonal.
    """

    title = "OBD ½|h|w²"
    family = "second order"
    needs = frozenset({DATA, GRADIENTS})
    slow = True

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        found = hessian_diagonal(subject, look)
        weights = {name: subject.weight(name) for name in names}
        return {name: weight.square() * found[name].to(weight.device).abs() / 2 for name, weight in weights.items()}
