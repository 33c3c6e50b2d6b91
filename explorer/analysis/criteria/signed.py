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
    negative. Source: as the counter-example to ranking by magnitude (Han et al. 2015, arXiv 1506.02626, section 3).
    """

    title = "signed value w"

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        return {name: subject.weight(name).clone() for name in names}
