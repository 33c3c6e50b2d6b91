"""The greedy search of error-based pruning: score all units, try them from the cheapest on, keep every decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..analysis.importance import importance
from ..compress.resolve import resolve
from ..core.errors import RecipeError, UnsupportedError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.report import FRACTIONS
from ..models.subject import Subject
from .compare import compare
from .error_trace import ErrorPruning, Terms, Trial
from .scan import Estimate
from .sweep import Sweep, Target, protected, targets_of

ROUND = 0.1  # of the units that remain, at most so many go between two scorings of all
AT_ONCE = 32  # units that are left out in one scan: between two it can be said how far the scoring is

Unit = tuple[str, int]


class Search:
    """The greedy search: which units are gone, what each costs now. settings: of :func:`compare`; progress: told how much of the
    round's scoring is done."""

    def __init__(self, subject: Subject, base: Recipe, terms: Terms, settings: Mapping[str, Any]) -> None:
        self.subject, self.base, self.terms, self.settings = subject, base, terms, {**settings, "split": terms.split}
        self.progress: Callable[[int, int], None] | None = self.settings.pop("progress", None)
        meant = targets_of(subject, Sweep(granularities=("unit",)), terms.targets)
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
            self.terms.split,
            self.n,
            complete,
            self.evaluated,
        )

    def costs(self, units: Sequence[Unit | None], base: Recipe) -> dict[Unit | None, Estimate]:
        """{unit: the model when it goes, too, and the change from ``base``}; None: nothing more goes."""
        found: dict[Unit | None, Estimate] = {}
        for start in range(0, len(units), AT_ONCE):
            candidates = {unit: self.recipe(unit) for unit in units[start : start + AT_ONCE]}
            *_, (_, now) = compare(self.subject, candidates, base, samples=self.terms.samples, **self.settings)
            last = now()
            found |= last.estimates
            self.evaluated += last.done
            if self.progress is not None and len(units) > 1:
                self.progress(len(found), len(units))
        self.metric, self.n = last.metric, next(iter(found.values())).n
        return found

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
        goes = cost < self.terms.allowance and total <= self.terms.limit
        scale, unit_of = (100, say("points")) if self.metric in FRACTIONS else (1, say("of the metric"))
        told = {"cost": _figure(scale * cost), "total": _figure(scale * total), "unit": unit_of}
        limits = {"allowance": scale * self.terms.allowance, "limit": scale * self.terms.limit}
        if goes:
            reason = say(
                "goes: it costs {cost} {unit}, less than {allowance:g}; in all {total}",
                **told,
                allowance=limits["allowance"],
            )
        elif cost >= self.terms.allowance:
            reason = say(
                "stays: it costs {cost} {unit}, not less than {allowance:g}",
                cost=told["cost"],
                unit=unit_of,
                allowance=limits["allowance"],
            )
        else:
            reason = say(
                "stays: with it all that is gone would cost {total} {unit}, more than {limit:g}",
                total=told["total"],
                unit=unit_of,
                limit=limits["limit"],
            )
        trial = Trial(*unit, cost, low, high, total, found.n, self.rounds, goes, reason)
        self.trace.append(trial)
        if goes:
            self.left[unit[0]].discard(unit[1])
            self.gone[unit[0]].append(unit[1])
            self.total = total
        return trial


def _figure(value: float) -> str:
    """Four digits, and no sign before nothing."""
    return f"{value + 0.0 if abs(value) >= 1e-9 else 0.0:.4g}"
