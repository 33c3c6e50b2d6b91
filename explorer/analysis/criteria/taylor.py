from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..evidence import Evidence, evidence
from ..rows import rows_of
from . import DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("taylor")
class Taylor(Criterion):
    """First-order Taylor: score(w) = (w · ∂L/∂w)², of the mean loss over training samples; of a unit, (Σ w · ∂L/∂w)² over its rows.

    The squared change of the loss that a linear model of it predicts when the weight, or the whole unit, becomes zero. Within
    a unit increases and decreases cancel before they are squared, which SNIP's sum does not allow. Scores have the
    weight's shape, in squared units of the loss. Needs training samples and a loss; one fused pass.
    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", arXiv 1906.10771, section 3. Their first
    paper's form, by activations and sample, is "relevance".
    """

    title = "Taylor (w·∂L/∂w)²"
    family = "gradient"
    needs = frozenset({DATA, GRADIENTS})

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        seen = evidence(subject, look)
        return {name: _products(subject, name, seen).square() for name in names}

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        seen = evidence(subject, look)
        return rows_of(cut, {name: _products(subject, name, seen) for name in cut.group.producers}).sum(1).square()


def _products(subject: Subject, name: str, seen: Evidence) -> Tensor:
    weight = subject.weight(name)
    return weight * seen.gradient[name].to(weight.device)
