from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ...models.device import place
from ..evidence import evidence, spread
from . import ACTIVATIONS, DATA, Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("wanda")
class Wanda(Criterion):
    """Weights and activations: score(w) = |w| · ‖x‖₂, x the inputs that the weight multiplies, over all samples and positions.

    A small weight on a loud input can matter more than a large weight on a silent one. For convolutions x are the patches that the
    weight's place in the kernel meets; for embeddings, how often a token occurs. Of a unit, the sum over its rows. The paper
    ranks within each output; here the rule's scope ranks. Scores have the weight's shape. Needs training samples, but neither loss
    nor gradients; one fused pass.
    Source: Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695, eq. 1.
    """

    title = "Wanda |w|·‖x‖₂"
    family = "activation"
    needs = frozenset({DATA, ACTIVATIONS})

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        seen = evidence(subject, look).inputs
        weights = {name: subject.weight(name) for name in names}
        return {
            name: w.abs() * place(spread(seen[name], tuple(w.shape)), w.device, w.dtype) for name, w in weights.items()
        }
