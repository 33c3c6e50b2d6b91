from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ...core.layers import Layer
from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("depth")
class Depth(Criterion):
    """Depth prior: score(w) = |w| / mean|w| of its layer · (1 + |2d − 1|), d from 0 (first layer) to 1 (last); of a unit, the mean.

    A prior about places rather than about weights: the first layers see the raw input and the last ones decide, and both are
    mostly found to suffer more from pruning than the middle. So at equal size within its layer a weight at either end counts
    twice as much as one in the middle. It matters in a global ranking; within one layer it ranks as l1 does. Scores have the
    weight's shape. Needs no data.
    Source: after the rule of Gale et al. 2019, "The State of Sparsity in Deep Neural Networks", arXiv 1902.09574, which
    spares the first layer and most of the last.
    """

    title = "depth prior"
    family = "structure"

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        layers: list[Layer] = subject.layers
        place = {layer.name: i / max(len(layers) - 1, 1) for i, layer in enumerate(layers)}
        out = {}
        for name in names:
            size = subject.weight(name).abs()
            out[name] = size / size.mean().clamp(min=1e-12) * (1 + abs(2 * place[name] - 1))
        return out

    def aggregate(self, scores: Tensor) -> Tensor:
        return scores.mean(1)
