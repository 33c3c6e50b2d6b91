"""Importance criteria, one file each; the registry discovers the folder."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ...core.errors import RecipeError, UnsupportedError, near
from ...core.message import say
from ...core.registry import Registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject
    from ..look import Look

FAMILIES = ("magnitude", "gradient", "second order", "activation", "structure", "reference", "own")
DATA, LOSS, GRADIENTS, ACTIVATIONS = "data", "loss", "gradients", "activations"


class Criterion:
    """Scores the entries of weight tensors, or units, or both; small means unimportant. The docstring is shown on screen.

    title: its short name. family: one of FAMILIES, by which screens group. needs: of "data" (samples of the train split),
    "loss", "gradients" (of the loss) and "activations" (what products read must be observable). of_weights, of_units: what it scores.
    slow: it takes many passes, not one. signed_axis: its score is |w|, so that a histogram over signed weights shows it.
    """

    title: ClassVar[str]
    family: ClassVar[str] = "magnitude"
    needs: ClassVar[frozenset[str]] = frozenset()
    of_weights: ClassVar[bool] = True
    of_units: ClassVar[bool] = True
    slow: ClassVar[bool] = False
    signed_axis: ClassVar[bool] = False
    token: ClassVar[int] = 0  # tells redefinitions of a person's own apart

    @property
    def key(self) -> Hashable:
        """What tells this criterion's cached results from another one's."""
        return type(self).__qualname__, self.token

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        """{layer: scores of the weight's shape, float32 or float64}."""
        raise UnsupportedError(
            say("{title} scores units, not single weights; prune units instead (granularity='unit')", title=self.title)
        )

    def aggregate(self, scores: Tensor) -> Tensor:
        """Scores of one group's producers [units, k] -> one score a unit [units]."""
        return scores.sum(1)

    def unit_scores(self, subject: Subject, cut: Cut, look: Look) -> Tensor:
        """[units]: by default the weights' scores, aggregated over the rows of every producer of the group."""
        from ..importance import weight_scores
        from ..rows import rows_of

        return self.aggregate(rows_of(cut, weight_scores(subject, self, list(cut.group.producers), look)))

    def why_not(self, subject: Subject, name: str) -> str | None:
        """None, or why it cannot score that layer or group, beyond what ``needs`` says."""
        return None

    def is_compatible(self, subject: Subject, name: str) -> str | None:
        """None, or why it cannot score the weights of a layer, or the units of a group, of that name. Looks at a few samples
        at most, so that it is said before work starts; says what would do instead."""
        from ..probe import why_no_data, why_no_gradient, why_no_loss, why_unobserved

        cut = subject.structure.cuts.get(name)
        if cut is None and not self.of_weights:
            return say(
                "{title} scores units, not single weights; prune units instead (granularity='unit'), or choose another criterion",
                title=self.title,
            )
        if cut is not None and not self.of_units:
            return say(
                "{title} scores single weights, not units; prune weights instead (granularity='weight'), or choose another criterion",
                title=self.title,
            )
        layers = [name] if cut is None else list(cut.group.producers)
        why = why_no_data(subject) if self.needs else None
        if why is None and self.needs & {LOSS, GRADIENTS}:
            why = why_no_loss(subject)
        if why is None and GRADIENTS in self.needs:
            why = why_no_gradient(subject, layers)
        if why is None and ACTIVATIONS in self.needs:
            by_rows = type(self).unit_scores is Criterion.unit_scores  # else by what reads the units
            why = why_unobserved(subject, layers, None if by_rows else cut)
        return why if why is not None else self.why_not(subject, name)


class Criteria(Registry[type[Criterion]]):
    """Registered criteria. ``"taylor/mac"`` means taylor over what a weight or unit costs: see :mod:`..costs`."""

    def __init__(self) -> None:
        super().__init__("criterion", __name__)
        self.generation = (
            0  # rises when a person's own criterion is defined anew: cached plans name criteria by name only
        )

    def __contains__(self, name: object) -> bool:
        base, _, cost = str(name).partition("/")
        if not cost:
            return super().__contains__(base)
        from ..costs import registry as costs

        return super().__contains__(base) and cost in costs

    def __getitem__(self, name: str) -> type[Criterion]:
        base, slash, cost = str(name).partition("/")
        if not slash:
            return super().__getitem__(name)
        from ..costs import divided
        from ..costs import registry as costs

        found = super().__getitem__(base)
        if cost not in costs:
            raise RecipeError(
                say("criterion {name!r}: unknown cost {cost!r}; {hint}", name=name, cost=cost, hint=near(cost, costs))
            )
        return divided(found, cost)

    def own(self, name: str, entry: type[Criterion]) -> None:
        """A person's own criterion; defined again it takes the place of the former."""
        if name in self and self[name].family != "own":
            raise RecipeError(say("criterion {name!r} is one of the package's; choose another name", name=name))
        if not name or "/" in name:
            raise RecipeError(
                say("criterion {name!r}: accepted: a name without a slash, which divides by a cost", name=name)
            )
        self._entries[name] = entry
        self.generation += 1
        entry.token = self.generation

    def forget(self, name: str) -> None:
        """Take a person's own criterion out again."""
        if self[name].family == "own":
            del self._entries[name]
            self.generation += 1


registry = Criteria()


def criteria() -> tuple[str, ...]:
    """Names of the registered importance criteria; each may be divided by a cost, as in "taylor/mac"."""
    return tuple(registry)
