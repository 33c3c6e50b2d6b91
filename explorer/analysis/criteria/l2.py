from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("l2")
class L2(Criterion):
    """Euclidean norm: score(w) = |w| for a weight; of a unit, the root of the sum of w² over its rows (Frobenius norm).

    For single weights it ranks as l1 does; for units one large weight counts for more than many small ones.
    Needs no data. Source: He et al. 2018, "Soft Filter Pruning", arXiv 1808.06866, eq. 2 with p = 2.
    """

    title = "Euclidean norm ‖w‖₂"
    signed_axis = True

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        return {name: subject.weight(name).abs() for name in names}

    def aggregate(self, scores: Tensor) -> Tensor:
        return scores.norm(dim=1)
