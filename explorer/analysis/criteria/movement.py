from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..evidence import evidence
from . import DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("movement")
class Movement(Criterion):
    """Movement: score(w) = −w · ∂L/∂w, of the mean loss over training samples; of a unit, the sum over its rows.

    A step of gradient descent moves w by −∂L/∂w: away from zero where the score is positive, towards zero where it is
    negative. What shrinks goes first. Made for models that are being fine-tuned, where it is summed over the steps; here it is
    the first step's, on the model as it stands. Scores have the weight's shape and may be negative. Needs training samples and
    a loss; one fused pass.
    Source: Sanh et al. 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", arXiv 2005.07683.
    """

    title = "movement −w·∂L/∂w"
    family = "gradient"
    needs = frozenset({DATA, GRADIENTS})

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        seen = evidence(subject, look)
        return {name: -subject.weight(name) * seen.gradient[name].to(subject.weight(name).device) for name in names}
