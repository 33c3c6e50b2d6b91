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


@registry.register("variance")
class Variance(Criterion):
    """Activation variance: score(u) = mean (a − ā)² over training samples and positions, a being what the next layers read.

    A unit that always says the same carries no information about the input: a constant can be moved into the next layer's bias. It
    does not see how strongly the unit is listened to. One score a unit; not defined for single weights. Needs training
    samples; one fused pass. Source: Polyak, Wolf 2015, "Channel-level acceleration of deep face representations",
    IEEE Access 3 (inbound pruning).
    """

    title = "activation variance"
    family = "activation"
    needs = frozenset({DATA, ACTIVATIONS})
    of_weights = False

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        return of_units(subject, cut.group.name, evidence(subject, look).moments)["variance"]
