from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("l1")
class L1(Criterion):
    """Magnitude: score(w) = |w|; of a unit, the sum of |w| over its rows.

    Small weights change a sum the least. Needs no data. Scores have the weight's shape; a unit's is a sum over the
    rows of every layer that produces it.
    Source: Han et al. 2015, "Learning both Weights and Connections", arXiv 1506.02626, section 3; for filters
    Li et al. 2017, "Pruning Filters for Efficient ConvNets", arXiv 1608.08710, section 3.1.
    """

    title = "magnitude |w|"
    signed_axis = True

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        return {name: subject.weight(name).abs() for name in names}
