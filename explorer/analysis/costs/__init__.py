"""What weights and units cost, one file each: "taylor/mac" is taylor over multiply-accumulates, so that expensive units go first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ...core.registry import Registry
from ..criteria import Criterion

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look


class Cost(ABC):
    """What one weight, or one unit, costs. The docstring is shown on screen."""

    title: ClassVar[str]

    def why_not(self, subject: Subject, name: str) -> str | None:
        """None, or why the cost of that layer's weights, or of that group's units, is not known."""
        return None

    @abstractmethod
    def of_weight(self, subject: Subject, name: str) -> float:
        """Of one weight of a layer. Raises :class:`UnsupportedError` where :meth:`why_not` says why."""

    @abstractmethod
    def of_unit(self, subject: Subject, cut: Cut) -> float:
        """Of one unit of a group. Raises as :meth:`of_weight`."""


registry: Registry[type[Cost]] = Registry("cost", __name__)


class Divided(Criterion):
    """A criterion's score over a cost."""

    base: ClassVar[type[Criterion]]
    cost: ClassVar[type[Cost]]

    @property
    def key(self) -> Hashable:
        return self.base().key, self.cost.__qualname__

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        found, cost = self.base().scores(subject, names, look), self.cost()
        return {name: one / cost.of_weight(subject, name) for name, one in found.items()}

    def aggregate(self, scores: Tensor) -> Tensor:
        return self.base().aggregate(scores)

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        return self.base().unit_scores(subject, cut, look) / self.cost().of_unit(subject, cut)

    def is_compatible(self, subject: Subject, name: str) -> str | None:
        why = self.base().is_compatible(subject, name)
        return why if why is not None else self.cost().why_not(subject, name)


def divided(base: type[Criterion], cost: str) -> type[Criterion]:
    """The criterion ``base/cost``."""
    entry = registry[cost]
    own = {
        "base": base, "cost": entry, "title": f"{base.title} / {entry.title}", "family": "structure", "needs": base.needs,
        "of_weights": base.of_weights, "of_units": base.of_units, "slow": base.slow,
        "__doc__": f"{base.__doc__}\n\n{entry.__doc__}",
    }  # fmt: skip
    return type(f"{base.__name__}Per{entry.__name__}", (Divided,), own)
