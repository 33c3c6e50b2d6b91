"""What error-based pruning is asked for, and what it decides: values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import RecipeError
from ..core.message import say
from ..core.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 1024


@dataclass(frozen=True)
class Terms:
    """What a search keeps to: see :func:`explorer.prune_by_error`. Raises :class:`RecipeError`."""

    allowance: float = 0.005
    total: float | None = None
    targets: Sequence[str] | str | None = None
    split: str = "train"
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        for name, value in (("allowance", self.allowance), ("total", self.limit)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise RecipeError(
                    say("{name}={value!r}; accepted: a number from 0, in units of the metric", name=name, value=value)
                )
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise RecipeError(say("samples={samples!r}; accepted: a whole number from 1", samples=self.samples))

    @property
    def limit(self) -> float:
        """What all that goes may cost together."""
        return self.allowance if self.total is None else self.total


@dataclass(frozen=True)
class Trial:
    """One decision. group, unit: index within the original group. cost: of the metric, when this unit goes on top of those gone
    before (positive is worse); low, high: its paired 95 % interval over the ``n`` samples, None where there is none; total: the
    cost of all that is gone by then, this unit included. removed: what was decided, and reason: why."""

    group: str
    unit: int
    cost: float
    low: float | None
    high: float | None
    total: float
    n: int
    round: int
    removed: bool
    reason: str


@dataclass(frozen=True)
class ErrorPruning:
    """What was found, best so far where it was cut short.

    recipe: names the units that go. trace: all decisions, in their order. kept: {group: units that stay}. complete: no unit is
    left that could go. evaluated: samples times models.
    """

    recipe: Recipe
    trace: tuple[Trial, ...]
    kept: Mapping[str, int]
    total: float
    metric: str
    split: str
    n: int
    complete: bool
    evaluated: int

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """{group: units that go}, in the order in which they went."""
        out: dict[str, tuple[int, ...]] = {}
        for trial in self.trace:
            if trial.removed:
                out[trial.group] = (*out.get(trial.group, ()), trial.unit)
        return out

    def table(self) -> pd.DataFrame:
        """The trace, a row a decision."""
        import pandas as pd

        return pd.DataFrame([vars(trial) for trial in self.trace], columns=list(Trial.__dataclass_fields__))
