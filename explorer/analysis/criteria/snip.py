from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..evidence import evidence
from . import DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("snip")
class Snip(Criterion):
    """Connection sensitivity: score(w) = |w · ∂L/∂w|, of the mean loss over training samples; of a unit, the sum over its rows.

    How much the loss would change, to first order, if the weight were switched off by a gate. SNIP divides by the sum over
    all weights, which changes no ranking and is left out. Scores have the weight's shape, in units of the loss. Needs training
    samples and a loss; one fused pass.
    Source: Lee et al. 2019, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", arXiv 1810.02340.
    """

    title = "SNIP |w·∂L/∂w|"
    family = "gradient"
    needs = frozenset({DATA, GRADIENTS})

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        seen = evidence(subject, look)
        return {
            name: (subject.weight(name) * seen.gradient[name].to(subject.weight(name).device)).abs() for name in names
        }
