"""Recipe + Subject -> Report: all at once, or as a stream of Reports that sharpen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.errors import RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.report import Report
from ..models.device import pick
from ..models.subject import Subject
from .costs import counts
from .engine import Engine, Seen, engine, fast_dtype

FIRST_ANSWER = 0.040  # seconds of evaluation that the first answer may take
PRECISIONS = ("full", "fast")
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
) -> Report:
    """Judge a recipe on all samples of a split, or on the first ``samples`` of its stratified order.

    precision "full" is float32; "fast" the machine's fast dtype where that is faster (bfloat16), else float32.
    ``cancel()`` is asked between chunks; ``progress(done, total)`` is told after each. Equal plans are evaluated once.
    Raises :class:`RecipeError`, :class:`TaskError`, :class:`EvaluationError`, :class:`Cancelled`.
    """
    recipe = recipe if recipe is not None else Recipe()
    plan = resolve(subject, recipe)
    run = _engine(subject, split, precision, device)
    total = run.data(split).total
    if samples is not None:
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise RecipeError(say("samples={samples!r}; accepted: a whole number from 1", samples=samples))
        total = min(samples, total)
    done = run.seen(ORIGINAL, split).n  # the original is evaluated once for everybody
    first = 0 if done >= total else total
    work = first + (total if plan.layers else 0)
    before = after = run.ensure(ORIGINAL, split, total, cancel, progress and (lambda seen, _: progress(seen, work)))
    if plan.layers:
        after = run.ensure(plan, split, total, cancel, progress and (lambda seen, _: progress(first + seen, work)))
    return _report(run, recipe, plan, split, total, before, after)


def stream(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    split: str = "validation",
    precision: str = "full",
    device: str | torch.device | None = None,
    cancel: Cancel = None,
) -> Iterator[Report]:
    """Reports that sharpen: as many stratified samples as fit 40 ms (at least 32), four times as many, all."""
    recipe = recipe if recipe is not None else Recipe()
    plan = resolve(subject, recipe)
    run = _engine(subject, split, precision, device)
    for n in _stages(run, split):
        before = run.ensure(ORIGINAL, split, n, cancel)
        after = run.ensure(plan, split, n, cancel) if plan.layers else before
        yield _report(run, recipe, plan, split, n, before, after)


def glance(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    split: str = "validation",
    precision: str = "full",
    device: str | torch.device | None = None,
) -> Report:
    """What is known already: a Report over the samples seen so far, at least those of the first answer."""
    recipe = recipe if recipe is not None else Recipe()
    plan = resolve(subject, recipe)
    run = _engine(subject, split, precision, device)
    known = run.seen(ORIGINAL, split).n
    if plan.layers:
        known = min(known, run.seen(plan, split).n)
    n = max(known, _stages(run, split)[0])
    before = run.ensure(ORIGINAL, split, n)
    after = run.ensure(plan, split, n) if plan.layers else before
    return _report(run, recipe, plan, split, n, before, after)


def _stages(run: Engine, split: str) -> list[int]:
    """Sample counts of the three answers, on chunk edges."""
    data = run.data(split)
    if run.rate is None:
        run.ensure(ORIGINAL, split, 64)
    fits = FIRST_ANSWER * (run.rate or 0.0)
    first = max([edge for edge in data.looks if edge <= fits] or [data.looks[0]])
    second = max(edge for edge in data.looks if edge <= 4 * first or edge == first)
    return sorted({first, second, data.total})


def _engine(subject: Subject, split: str, precision: str, device: Any) -> Engine:
    if precision not in PRECISIONS:
        raise RecipeError(
            say(
                "precision={precision!r}; accepted: {precisions}", precision=precision, precisions=", ".join(PRECISIONS)
            )
        )
    where = pick(device)
    dtype = fast_dtype(subject, ORIGINAL, where, split) if precision == "fast" else None
    return engine(subject, where, dtype)


def _precision(run: Engine) -> str:
    """What was computed in: fp32, bf16, fp16 or fp64."""
    first = next((p.dtype for p in run.replica.module.parameters() if p.is_floating_point()), torch.float32)
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}.get(first, str(first))


def _report(run: Engine, recipe: Recipe, plan: Plan, split: str, n: int, was: Seen, now: Seen) -> Report:
    subject, data = run.subject, run.data(split)
    before = was.columns(n)
    after = now.columns(n) if now is not was else before
    metrics = run.metrics
    return Report(
        subject=subject.name,
        recipe=recipe,
        plan=plan.digest,
        task=subject.task.kind,
        split=split,
        n=n,
        total=data.total,
        precision=_precision(run),
        device=str(run.device),
        figures=metrics.figures(after, split),
        changes=metrics.changes(before, after, split),
        lower_is_better=subject.task.lower_is_better,
        lazy={
            "counts": lambda: counts(subject, plan),
            "changed": lambda: metrics.changed(before, after, data.order[:n]),
            "per_class": lambda: metrics.per_class(before, after, subject.task.classes),
            "confusion": lambda: metrics.confusion(before, after),
        },
    )
