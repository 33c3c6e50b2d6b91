from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("signed")
class Signed(Criterion):
    """Signed value: score(w) = w; the most negative (inhibiting) weights go first. Of a unit, the sum over its rows.

    A lesson more than a method: it shows that the sign of a weight says nothing about how much it is needed, since
    what inhibits carries as much information as what excites. Needs no data. Scores have the weight's shape and may be
    negative. Source: Zhou et al. 2019, "Deconstructing Lottery Tickets", arXiv 1905.01067, section 2, where masks
    by signed values are compared with magnitudes.
    """

    title = "signed value w"

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        return {name: subject.weight(name).clone() for name in names}
