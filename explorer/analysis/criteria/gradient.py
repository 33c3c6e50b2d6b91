from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..evidence import evidence
from . import DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("gradient")
class Gradient(Criterion):
    """Gradient: score(w) = |∂L/∂w|, of the mean loss over training samples; of a unit, the sum over its rows.

    Weights on which the loss depends steeply stay, whatever their size. At a minimum all gradients are small and mostly
    noise, and a steep weight may be tiny, so it often loses against magnitude: a lesson in what a gradient does not say.
    Scores have the weight's shape. Needs training samples and a loss; one fused pass.
    Source: Evci et al. 2020, "Rigging the Lottery", arXiv 1911.11134, section 3, where it says which weights to grow back.
    """

    title = "gradient |∂L/∂w|"
    family = "gradient"
    needs = frozenset({DATA, GRADIENTS})

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        seen = evidence(subject, look)
        return {name: seen.gradient[name].abs() for name in names}
