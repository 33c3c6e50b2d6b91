from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..evidence import evidence
from ..probe import why_unobserved
from ..squares import squared_gradients
from . import DATA, GRADIENTS, Criterion, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


@registry.register("fisher")
class Fisher(Criterion):
    """Fisher information: score(w) = ½ w² · mean over samples n of (∂L_n/∂w)²; of a unit, ½ · mean of (Σ a · ∂L_n/∂a)².

    Optimal Brain Damage with the empirical Fisher information in place of the Hessian's diagonal: a weight matters where single
    samples pull at it, even if their pulls cancel in the mean gradient. Of a unit, a are its activations wherever they are
    read. Exact for every sample, not for batches. Scores have the weight's shape, in squared units of the loss. Needs training
    samples and a loss; one fused pass.
    Source: Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", arXiv 1801.05787.
    """

    title = "Fisher ½w²E[g²]"
    family = "second order"
    needs = frozenset({DATA, GRADIENTS})

    def why_not(self, subject: Subject, name: str) -> str | None:
        cut = subject.structure.cuts.get(name)
        return why_unobserved(subject, [], cut) if cut is not None else None

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        seen = evidence(subject, look).squared
        missing = [name for name in names if name not in seen]
        more = squared_gradients(subject, missing, look) if missing else {}
        weights = {name: subject.weight(name) for name in names}
        return {name: weight.square() * (seen | more)[name].to(weight.device) / 2 for name, weight in weights.items()}

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        return evidence(subject, look).relevance[cut.group.name][1] / 2
