from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ...core.message import say
from ..evidence import evidence
from ..moments import of_units
from ..probe import probe
from . import ACTIVATIONS, DATA, Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("apoz")
class Apoz(Criterion):
    """Average percentage of zeros: score(u) = 1 − APoZ, the fraction of a unit's activations that are not exactly zero.

    Behind a ReLU a unit that is mostly zero rarely says anything. Counted over training samples and positions of what the next
    layers read. Units that are never exactly zero (behind tanh, sigmoid, GELU, in LSTMs) cannot be told apart by it. One score a
    unit, from 0 to 1; not defined for single weights. Needs training samples; one fused pass.
    Source: Hu et al. 2016, "Network Trimming: A Data-Driven Neuron Pruning Approach", arXiv 1607.03250, eq. 1.
    """

    title = "active fraction (APoZ)"
    family = "activation"
    needs = frozenset({DATA, ACTIVATIONS})
    of_weights = False

    def why_not(self, subject: Subject, name: str) -> str | None:
        zeros = of_units(subject, name, probe(subject).moments)["zeros"]
        if bool((zeros == zeros[0]).all()):
            return say(
                "the units of {group} are zero equally often (no ReLU before what reads them); activation or variance would do",
                group=name,
            )
        return None

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        return 1 - of_units(subject, cut.group.name, evidence(subject, look).moments)["zeros"]
