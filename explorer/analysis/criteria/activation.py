from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..evidence import evidence
from ..moments import of_units
from . import ACTIVATIONS, DATA, Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("activation")
class Activation(Criterion):
    """Mean activation: score(u) = mean |a| over training samples and positions, a being what the next layers read of the unit.

    A unit that is nearly silent adds nearly nothing to any sum. It does not see how strongly it is listened to: the next layer may
    multiply a whisper by a large weight. One score a unit; not defined for single weights. Needs training samples; one
    fused pass. Source: Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    arXiv 1611.06440, section 2.2 (activation).
    """

    title = "mean activation |a|"
    family = "activation"
    needs = frozenset({DATA, ACTIVATIONS})
    of_weights = False

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        return of_units(subject, cut.group.name, evidence(subject, look).moments)["abs"]
