from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..evidence import evidence
from . import ACTIVATIONS, DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("relevance")
class Relevance(Criterion):
    """First-order relevance: score(u) = mean over samples n of |Σ a · ∂L_n/∂a|, the sum over all places where the unit is read.

    How much the loss of a sample would change, to first order, if the unit were gone: how loud it is times how much anybody
    listens. Sample by sample, so that increases and decreases do not cancel. Of an attention head it is Michel's head
    importance, with the gradient of a gate; of a recurrent unit it is summed over time. One score a unit, in units of the loss;
    not defined for single weights. Needs training samples and a loss; one fused pass.
    Source: Molchanov et al. 2017, arXiv 1611.06440, section 2.2 (summed, not averaged, over positions); Michel et al. 2019,
    "Are Sixteen Heads Really Better than One?", arXiv 1905.10650.
    """

    title = "relevance E|Σ a·∂L/∂a|"
    family = "activation"
    needs = frozenset({DATA, GRADIENTS, ACTIVATIONS})
    of_weights = False

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        return evidence(subject, look).relevance[cut.group.name][0]
