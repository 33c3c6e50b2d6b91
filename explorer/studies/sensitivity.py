"""How much each layer or group of units, changed alone, costs: the metric over sparsities or bits, one curve each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.errors import RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..evaluate.compare import TOLERANCE, Progress, compare
from ..evaluate.sweep import BITS, SPARSITIES, able, protected, sweep_of, targets_of
from ..models.subject import Subject
from .curve_table import frame, layer_row
from .shares import share_of_group, share_of_layer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BITS", "SPARSITIES", "Progress", "sensitivity", "sensitivity_steps"]


Table = Callable[[], "tuple[pd.DataFrame, Progress]"]

SETTINGS = frozenset(inspect.signature(sweep_of).parameters)  # the others are those of :func:`compare`


def sensitivity_steps(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    targets: Sequence[str] | str | None = None,
    **settings: Any,
) -> Iterator[tuple[pd.DataFrame, Progress]]:
    """As :func:`sensitivity`, by the same settings, after every chunk: (the table so far, how far it is)."""
    for _, table in _steps(subject, recipe, targets=targets, **settings):
        yield table()


def _steps(
    subject: Subject, recipe: Recipe | None = None, *, targets: Sequence[str] | str | None = None, **settings: Any
) -> Iterator[tuple[tuple[int, int], Table]]:
    """After every chunk (samples done, samples in all), and what makes the table so far."""
    base = recipe or Recipe()
    sweep = sweep_of(**{name: settings.pop(name) for name in list(settings) if name in SETTINGS})
    meant = targets_of(subject, sweep, targets)
    locked = protected(subject, base, meant)
    free = [target for target in meant if target.name not in locked]
    fit, skipped = able(subject, sweep, free, base, must=targets is not None)
    skipped |= {name: say("it is protected by the recipe") for name in locked}
    if not fit:
        raise RecipeError(say("{subject}: nothing to scan", subject=subject.name))
    cuts = subject.structure.cuts
    shares = {t: share_of_group(subject, cuts[t.group]) if t.group else share_of_layer(subject, t.name) for t in fit}
    candidates: Mapping[Any, Recipe] = {(t, point): sweep.edit(base, t, point) for t in fit for point in sweep.points}
    about = {"recipe": base, "subject": subject.name, "split": settings.get("split", "validation"), "skipped": skipped}
    def table(now: Callable[[], Progress]) -> tuple[pd.DataFrame, Progress]:
        progress = now()
        rows = [
            layer_row(target, layer, point, found, shares)
            for (target, point), found in progress.estimates.items()
            for layer in target.layers  # layers of one group are cut together: one curve
        ]
        lower = progress.metric in subject.task.lower_is_better
        return frame(rows, sweep, progress.metric, lower, **about), progress

    for scan, now in compare(subject, candidates, base, **settings):
        yield scan.work_done, partial(table, now)


def sensitivity(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    targets: Sequence[str] | str | None = None,
    by: str = "sparsity",
    sparsities: Sequence[float] = SPARSITIES,
    bits: Sequence[int] = BITS,
    granularity: str | Sequence[str] | None = None,
    criterion: str = "l1",
    mode: str = "hard",
    factor: float | None = None,
    quantizer: str = "minmax",
    scheme: str | None = None,
    split: str = "validation",
    precision: str = "full",
    device: Any = None,
    exact: bool = False,
    tolerance: float = TOLERANCE,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    user: Hashable = None,
) -> pd.DataFrame:
    """Each layer, or each group of coupled units, changed alone on top of ``recipe``, step by step.

    targets: layers, modules, patterns or groups; None: all to which this applies. by: "sparsity" (``sparsities``: fractions
    in [0, 1)) or "bits" (``bits``: 8 ... 2). granularity: for sparsity "weight" (default), "unit" (whole groups are
    removed), a block such as "4x1", or ("weight", "unit"): every layer and every coupled group; for bits "channel" (default) or
    "tensor". criterion, mode, factor (0.5 with mode="scale", where none is given), quantizer, scheme: as in :class:`explorer.Recipe`.

    Returns a table with a row a layer and step. layer; sparsity or bits; metric (the main one, a fraction), low, high (its 95 %
    interval); n (samples seen); change (from the recipe on the same samples), change_low, change_high (its paired interval; None
    for a metric that has none); group (of units: the layers of a group are coupled, are cut together and have the same curve);
    granularity; kind (of layer or unit); parameters, macs (fractions of the whole model's; of a group all that goes with its units,
    the columns that read them included: an entry between two groups counts in both, so these do not sum to one). A point of all samples has the figures and intervals of :func:`explorer.evaluate`. ``table.attrs`` holds how it was
    made, and under "skipped" what could not be scanned and why.

    exact: all samples; else a point is finished once the change of the whole split is known to +- ``tolerance`` (95 %, over all
    looks); of right answers, more samples are seen of those whose answers change easily, and weighted by strata. ``progress(done, total)`` counts samples times points. Raises :class:`RecipeError`, :class:`UnsupportedError` (before
    work starts), :class:`EvaluationError`, :class:`Cancelled`; asked again, a cancelled scan goes on where it stopped, unless
    ``resume`` is False. Method: Li et al. 2017, arXiv 1608.08710, section 3.2.
    """
    last: Table | None = None
    steps = _steps(
        subject, recipe, targets=targets, by=by, sparsities=sparsities, bits=bits, granularity=granularity, criterion=criterion,
        mode=mode, factor=factor, quantizer=quantizer, scheme=scheme, split=split, precision=precision, device=device, exact=exact, tolerance=tolerance,
        resume=resume, cancel=cancel, user=user,
    )  # fmt: skip
    for done, table in steps:
        last = table  # made at the end, which is all that is asked for
        if progress is not None:
            progress(*done)
    assert last is not None
    return last()[0]
