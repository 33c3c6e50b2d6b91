"""Error-based pruning: units go, cheapest first, as long as the model without them errs little more; every decision is kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..analysis.importance import importance
from ..compress.resolve import resolve
from ..core.errors import Cancelled, RecipeError, UnsupportedError
from ..core.message import say
from ..core.recipe import Recipe
from ..evaluate.scan import Estimate
from ..models.subject import Subject
from .compare import compare
from .sweep import Sweep, Target, protected, targets_of

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 1024
ROUND = 0.1  # of the units that remain, at most so many go between two scorings of all

Unit = tuple[str, int]


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


def prune_by_error(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    allowance: float = 0.005,
    total: float | None = None,
    targets: Sequence[str] | str | None = None,
    split: str = "train",
    samples: int = SAMPLES,
    device: Any = None,
    precision: str = "full",
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    user: Hashable = None,
) -> ErrorPruning:
    """Remove units whose exact removal costs less than ``allowance`` of the main metric; the others are retained.

    Greedy with re-scoring. In every round each unit that remains is really left out, one at a time, of the model without those that
    are gone (its consumers' slices masked, which equals removing it), and the units are tried from the cheapest on: each is
    measured again in the state that it would be removed from (of equal costs the smaller L1 norm first), and goes if it costs less than ``allowance`` and all that is gone
    costs no more than ``total`` (default: ``allowance``, too). A round ends with the first unit that must stay, or when a tenth of
    the units went; the next one scores all again. It ends when a round removes none.

    allowance, total: in units of the metric (0.005: half a point of accuracy). recipe: what is done to the model besides.
    targets: groups, layers, modules or patterns; None: all groups. split, samples: on which a cost is measured; the stratified
    first samples of a split, so that the same unit costs the same on every run. ``progress(gone, units)``. Raises
    :class:`RecipeError`, :class:`UnsupportedError`; when ``cancel()`` says so it returns what was found so far.
    Source of the idea: Mozer, Smolensky 1989, Skeletonization, NIPS 1; the exact cost is what Molchanov et al. 2017
    (arXiv 1611.06440), section 2.1, call the oracle.
    """
    last = None
    steps = prune_by_error_steps(
        subject, recipe, allowance=allowance, total=total, targets=targets, split=split, samples=samples, device=device,
        precision=precision, cancel=cancel, user=user,
    )  # fmt: skip
    for last in steps:  # noqa: B007
        if progress is not None:
            gone = sum(trial.removed for trial in last.trace)
            progress(gone, gone + sum(last.kept.values()))
    assert last is not None
    return last


def prune_by_error_steps(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    allowance: float = 0.005,
    total: float | None = None,
    targets: Sequence[str] | str | None = None,
    split: str = "train",
    samples: int = SAMPLES,
    cancel: Callable[[], bool] | None = None,
    **settings: Any,
) -> Iterator[ErrorPruning]:
    """As :func:`prune_by_error`, after every decision: what is known so far."""
    total = allowance if total is None else total
    for name, value in (("allowance", allowance), ("total", total)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise RecipeError(
                say("{name}={value!r}; accepted: a number from 0, in units of the metric", name=name, value=value)
            )
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise RecipeError(say("samples={samples!r}; accepted: a whole number from 1", samples=samples))
    search = Search(subject, recipe or Recipe(), targets, split, samples, allowance, total, cancel, settings)
    yield search.state(False)
    try:
        while True:
            removed = 0
            for trial in search.round():
                removed += trial.removed
                yield search.state(False)
            if not removed:
                break
    except Cancelled:
        yield search.state(False)
        return
    yield search.state(True)


class Search:
    """The greedy search: which units are gone, what each costs now."""

    def __init__(
        self, subject: Subject, base: Recipe, targets: Sequence[str] | str | None, split: str, samples: int, allowance: float, total: float,
        cancel: Any, settings: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.subject, self.base, self.split, self.samples = subject, base, split, samples
        self.allowance, self.limit, self.settings = allowance, total, {**settings, "split": split, "cancel": cancel}
        meant = targets_of(subject, Sweep(granularity="unit"), targets)
        locked = protected(subject, base, meant)
        self.targets: dict[str, Target] = {target.name: target for target in meant if target.name not in locked}
        if not self.targets:
            raise UnsupportedError(say("{subject}: no group of units that may be removed", subject=subject.name))
        sizes = {group.name: group.units for group in subject.groups}
        cut = set(resolve(subject, base).kept).intersection(self.targets)
        if cut:
            raise RecipeError(
                say(
                    "{group}: the recipe removes units of it already; accepted: a recipe that leaves it whole",
                    group=min(cut),
                )
            )
        self.left = {name: set(range(sizes[name])) for name in self.targets}
        self.gone: dict[str, list[int]] = {name: [] for name in self.targets}
        self.trace: list[Trial] = []
        self.total, self.n, self.rounds, self.evaluated, self.metric = 0.0, 0, 0, 0, ""
        self.start: float | None = None  # the base's metric

    def recipe(self, more: Unit | None = None) -> Recipe:
        """The base without the units that are gone, and one more."""
        recipe = self.base
        for name, target in self.targets.items():
            units = [*self.gone[name], *([more[1]] if more and more[0] == name else [])]
            if units:
                recipe = recipe.prune(target.rule, granularity="unit", units=units)
        return recipe

    def state(self, complete: bool) -> ErrorPruning:
        """What is known by now."""
        kept = {name: len(units) for name, units in self.left.items()}
        return ErrorPruning(
            self.recipe(),
            tuple(self.trace),
            kept,
            self.total,
            self.metric,
            self.split,
            self.n,
            complete,
            self.evaluated,
        )

    def costs(self, units: Sequence[Unit | None], base: Recipe) -> dict[Unit | None, Estimate]:
        """{unit: the model when it goes, too, and the change from ``base``}; None: nothing more goes."""
        candidates = {unit: self.recipe(unit) for unit in units}
        *_, last = compare(self.subject, candidates, base, samples=self.samples, **self.settings)
        self.metric, self.n = last.metric, next(iter(last.estimates.values())).n
        self.evaluated += last.done
        return dict(last.estimates)

    def worse(self, value: float) -> float:
        """A change as a cost: positive is worse."""
        return value if self.metric in self.subject.task.lower_is_better else -value

    def round(self) -> Iterator[Trial]:
        """Score all units that remain, then try them from the cheapest on."""
        self.rounds += 1
        units = [(name, unit) for name, left in self.left.items() if len(left) > 1 for unit in sorted(left)]
        if not units:
            return
        if self.start is None:
            self.start = self.costs([None], self.base)[None].value.value
        scored = self.costs(units, self.recipe())
        ties = importance(
            self.subject, "l1", granularity="unit", layers=list(self.targets)
        )  # few samples tell few costs apart
        order = sorted(
            units, key=lambda unit: (self.worse(scored[unit].change.value), float(ties[unit[0]][unit[1]]), unit)
        )
        quota = max(1, int(ROUND * len(units)))
        for unit in order:
            if len(self.left[unit[0]]) < 2:
                continue
            trial = self.attempt(unit)
            yield trial
            quota -= trial.removed
            if not trial.removed or not quota:
                return

    def attempt(self, unit: Unit) -> Trial:
        """Measure a unit in the present state, and decide."""
        assert self.start is not None
        found = self.costs([unit], self.recipe())[unit]
        cost, total = self.worse(found.change.value), self.worse(found.value.value - self.start)
        ends = [end for end in (found.change.low, found.change.high) if end is not None]
        low, high = sorted(map(self.worse, ends)) if len(ends) == 2 else (None, None)
        goes = cost < self.allowance and total <= self.limit
        if goes:
            reason = say(
                "goes: it costs {cost:.4f}, less than {allowance:g}; in all {total:.4f}",
                cost=cost,
                allowance=self.allowance,
                total=total,
            )
        elif cost >= self.allowance:
            reason = say("stays: it costs {cost:.4f}, not less than {allowance:g}", cost=cost, allowance=self.allowance)
        else:
            reason = say(
                "stays: with it all that is gone would cost {total:.4f}, more than {limit:g}",
                total=total,
                limit=self.limit,
            )
        trial = Trial(*unit, cost, low, high, total, found.n, self.rounds, goes, reason)
        self.trace.append(trial)
        if goes:
            self.left[unit[0]].discard(unit[1])
            self.gone[unit[0]].append(unit[1])
            self.total = total
        return trial
