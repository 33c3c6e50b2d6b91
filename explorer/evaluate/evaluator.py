"""Recipe + Subject -> Report: all at once, or as a stream of Reports that sharpen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.errors import RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.report import Later, Report
from ..models.device import pick
from ..models.subject import Subject
from .costs import counts
from .engine import FIRST_ANSWER, Engine, engine, loaded
from .intervals import Within
from .seen import Seen, Work

PRECISIONS = ("full", "fast")
WIDEN = 0.05  # seconds that one answer more may take where it brings all that follow it more samples
PARTIAL = 2  # looks at a part of a split, at most: the first answer, and four times as many samples
ORIGINAL = Plan({}, {})

Cancel = Callable[[], bool] | None
Progress = Callable[[int, int], None] | None


def evaluate(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    split: str = "validation",
    precision: str = "full",
    samples: int | None = None,
    device: str | torch.device | None = None,
    cancel: Cancel = None,
    progress: Progress = None,
    user: Hashable = None,
) -> Report:
    """Judge a recipe on all samples of a split, or on the first ``samples`` of its stratified order.

    precision "full" is float32; "fast" the machine's fast dtype where that is faster (bfloat16), else float32.
    ``cancel()`` is asked between chunks; ``progress(done, total)`` is told after each. Equal plans are evaluated once.
    user: whose evaluation it is, where many share a device: users take turns, and a newer request of the same user ends this
    one. Raises :class:`RecipeError`, :class:`TaskError`, :class:`EvaluationError`, :class:`Cancelled`.
    """
    with _steady(subject):
        ask = _ready(subject, recipe, split, precision, device)
        total = ask.total
        if samples is not None:
            if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
                raise RecipeError(say("samples={samples!r}; accepted: a whole number from 1", samples=samples))
            total = min(samples, total)
        with ask.run.work(user, False, cancel) as work:
            return ask.report(total, work, 0, progress)


def stream(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    split: str = "validation",
    precision: str = "full",
    device: str | torch.device | None = None,
    cancel: Cancel = None,
    progress: Progress = None,
    user: Hashable = None,
) -> Iterator[Report]:
    """Reports that sharpen: as many stratified samples as fit 40 ms (at least 32), four times as many, all.

    Until all were seen, an interval says where the figure of the *whole split* lies (finite population correction), at all of
    these looks together in 95 % of cases (Bonferroni): one may stop at any. The last report's intervals speak of samples that
    are not in the split, as those of :func:`evaluate`.
    """
    with _steady(subject):
        ask = _ready(subject, recipe, split, precision, device)
        with ask.run.work(user, True, cancel) as work:
            stages = ask.stages(work)
    for n in stages:
        with _steady(subject), ask.run.work(user, n == stages[0], cancel) as work:
            report = ask.report(n, work, len(stages) - 1, progress)
        yield report


def glance(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    split: str = "validation",
    precision: str = "full",
    device: str | torch.device | None = None,
    user: Hashable = None,
    more: bool = True,
    whole: float = 0.0,
) -> Report:
    """What is known already: a Report over the samples seen so far, at least those of the first answer.

    precision: "fast" where the original is known in it, else still full: nobody waits for weights and a trace of their own.
    more: False where any will do, so nothing is evaluated unless none were seen. whole: seconds that the whole split may take; where it
    takes no longer, at the pace so far, and nobody else waits, all of it is seen.
    """
    with _steady(subject):
        if precision == "fast" and not _known_in(precision, subject, split, device):
            precision = "full"
        ask = _ready(subject, recipe, split, precision, device)
        with ask.run.work(user, True) as work:
            known = ask.known
            if known >= ask.total or (known and not more):
                return ask.report(known, work, PARTIAL)
            if whole and ask.left(work) <= whole:
                return ask.report(ask.total, work, PARTIAL, patience=whole)
            return ask.report(max(known, ask.stages(work)[0]), work, PARTIAL, patience=FIRST_ANSWER)


def look(
    subject: Subject,
    recipe: Recipe,
    n: int,
    *,
    split: str = "validation",
    precision: str = "full",
    device: str | torch.device | None = None,
    cancel: Cancel = None,
    user: Hashable = None,
) -> Report:
    """A Report over the first ``n`` samples in stratified order, or all where there are fewer."""
    with _steady(subject):
        ask = _ready(subject, recipe, split, precision, device)
        with ask.run.work(user, False, cancel) as work:
            return ask.report(min(n, ask.total), work, PARTIAL)


def stages(
    subject: Subject, *, split: str = "validation", precision: str = "full", device: str | torch.device | None = None
) -> list[int]:
    """Sample counts of answers that sharpen: as many as fit 40 ms, four times as many, all."""
    with _steady(subject):
        ask = _ready(subject, None, split, precision, device)
        with ask.run.work(None, True) as work:
            return ask.stages(work)


def _known_in(precision: str, subject: Subject, split: str, device: str | torch.device | None) -> bool:
    """Whether the original was seen in a precision."""
    run = loaded(subject, pick(device), precision)
    return run is not None and run.seen(ORIGINAL, split).n > 0


@dataclass(frozen=True)
class _Ask:
    """A question: what a recipe comes to, on which split, and the engine that answers."""

    recipe: Recipe
    plan: Plan
    run: Engine
    split: str

    @property
    def total(self) -> int:
        """Samples of the split."""
        return self.run.data(self.split).total

    @property
    def known(self) -> int:
        """Samples seen so far of both, the original and this plan."""
        return min(self.run.seen(plan, self.split).n for plan in {ORIGINAL, self.plan if self.plan.state else ORIGINAL})

    def left(self, work: Work) -> float:
        """Seconds that the rest of the split takes, at the pace so far; without end while others wait, or while the original is not known."""
        run, total, known = self.run, self.total, self.known
        if run.queue.waiting or run.seen(ORIGINAL, self.split).n < total:
            return float("inf")
        pace, held = run.pace(self.plan, self.split, work)
        return max(0, min(held, total) - known) / pace + (total - max(held, known)) / run.rate

    def stages(self, work: Work) -> list[int]:
        """Sample counts of the three answers, on chunk edges."""
        data, run = self.run.data(self.split), self.run
        time = FIRST_ANSWER / (1 + run.queue.waiting)  # others want theirs, too
        pace, held = run.pace(self.plan, self.split, work)
        new = run.rate * (WIDEN if held else time)  # samples of which the values in front are yet to be computed
        first = max([edge for edge in data.looks if edge <= pace * time and edge - held <= new] or [data.looks[0]])
        second = max(edge for edge in data.looks if edge <= 4 * first or edge == first)
        return sorted({first, second, data.total})

    def report(self, n: int, work: Work, looks: int, progress: Progress = None, patience: float | None = None) -> Report:
        """The first ``n`` samples under both, as a report. looks: at parts of the split, for which all intervals hold together. patience:
        seconds after which fewer samples of the plan will do."""
        run, split = self.run, self.split
        first = 0 if run.seen(ORIGINAL, split).n >= n else n  # the original is evaluated once for everybody
        total = first + (n if self.plan.state else 0)
        before = after = run.ensure(ORIGINAL, split, n, work, progress and (lambda seen, _: progress(seen, total)))
        if self.plan.state:
            after = run.ensure(self.plan, split, n, work, progress and (lambda seen, _: progress(first + seen, total)), patience)
            n = min(n, after.n)
        return _report(run, self.recipe, self.plan, split, n, before, after, work, looks)


def _ready(subject: Subject, recipe: Recipe | None, split: str, precision: str, device: Any) -> _Ask:
    """The plan, and what runs it."""
    if precision not in PRECISIONS:
        raise RecipeError(say("precision={precision!r}; accepted: {precisions}", precision=precision, precisions=", ".join(PRECISIONS)))
    recipe = recipe if recipe is not None else Recipe()
    plan = resolve(subject, recipe)
    subject.task.dataset(split)
    return _Ask(recipe, plan, engine(subject, pick(device), precision), split)


def _steady(subject: Subject) -> AbstractContextManager[None]:
    """The subject's version is looked at once; what is no subject is refused by ``resolve``."""
    return subject.steady() if isinstance(subject, Subject) else nullcontext()


def _report(run: Engine, recipe: Recipe, plan: Plan, split: str, n: int, was: Seen, now: Seen, work: Work, looks: int) -> Report:
    subject, data = run.subject, run.data(split)
    before = was.columns(n)
    after = now.columns(n) if now is not was else before
    metrics = run.metrics
    within = Within.looks(data.total, looks) if looks and n < data.total else None
    return Report(
        subject=subject.name,
        recipe=recipe,
        plan=plan.digest,
        task=subject.task.kind,
        split=split,
        n=n,
        total=data.total,
        precision=run.precision,
        device=str(run.device),
        figures=Later(lambda: metrics.figures(after, split, within)),
        changes=Later(lambda: metrics.changes(before, after, split, within)),
        lower_is_better=subject.task.lower_is_better,
        timing=work.timing,
        machine=_machine(run, plan, split, work),
        history=subject.history,
        lazy={
            "counts": lambda: counts(subject, plan),
            "changed": lambda: metrics.changed(before, after, data.order[:n]),
            "flips": lambda: metrics.flips(before, after),
            "per_class": lambda: metrics.per_class(before, after, subject.task.classes),
            "confusion": lambda: metrics.confusion(before, after),
        },
    )


def _machine(run: Engine, plan: Plan, split: str, work: Work) -> dict[str, Any]:
    """How it was computed, for those who wonder."""
    job = work.jobs.get(plan.digest)
    runner = job.runner if job is not None else run.runner
    return {
        "tier": runner.tier,
        "reason": runner.reason,
        "mixes": run.runner.mixes,
        "graphs": len(run.recorded),
        "no_graphs": run.recorded.reason,
        "layout": run.tuned.layout,
        "batch": run.batch,
        "threads": run.tuned.threads or torch.get_num_threads(),
        "samples": work.samples,
        "cache_bytes": run.prefixes.used,
        "cache_budget": run.prefixes.budget,
        "half": run.tuned.reason,
    }
