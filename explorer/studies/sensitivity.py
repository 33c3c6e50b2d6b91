"""How much each layer, cut alone, costs: the metric over sparsities, one curve a layer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..compress.resolve import resolve
from ..core.errors import RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..evaluate.engine import engine
from ..evaluate.evaluator import PRECISIONS
from ..evaluate.scan import Estimate, scan_of
from ..models.device import pick
from ..models.subject import Subject

if TYPE_CHECKING:
    import pandas as pd

SPARSITIES = tuple(i / 10 for i in range(1, 10))
TOLERANCE = 0.005  # an adaptive scan stops a point when its change is known to +- this

Candidates = Mapping[Any, Recipe]


@dataclass(frozen=True)
class Progress:
    """A scan on its way. estimates: {key of the candidate: what is known of it}."""

    estimates: Mapping[Any, Estimate]
    settled: int
    done: int
    total: int


def compare(
    subject: Subject,
    candidates: Candidates,
    base: Recipe | None = None,
    *,
    split: str = "validation",
    precision: str = "full",
    device: Any = None,
    exact: bool = True,
    tolerance: float = TOLERANCE,
    cancel: Callable[[], bool] | None = None,
    user: Hashable = None,
) -> Iterator[Progress]:
    """Judge any recipes against a base (the original) on the same samples; all of them sharpen with every chunk.

    candidates: {key: recipe}. exact: every sample for every one; else one is finished once its change of the main metric is known
    to within ``tolerance`` (95 %, over all looks together; fractions). A scan that was cancelled, or left, goes on where it
    stopped when the same is asked again. Raises as :func:`explorer.evaluate`.
    """
    if precision not in PRECISIONS:
        raise RecipeError(
            say(
                "precision={precision!r}; accepted: {precisions}", precision=precision, precisions=", ".join(PRECISIONS)
            )
        )
    if not exact and not tolerance > 0:
        raise RecipeError(say("tolerance={tolerance}; accepted: a fraction above 0", tolerance=tolerance))
    with subject.steady():
        plans = {key: resolve(subject, recipe) for key, recipe in candidates.items()}
        run = engine(subject, pick(device), precision)
        scan = scan_of(
            run, resolve(subject, base or Recipe()), list(plans.values()), split, None if exact else tolerance
        )

    def now() -> Progress:
        found = {key: scan.estimate(plan.digest) for key, plan in plans.items()}
        return Progress(found, len(scan.settled), *scan.work_done)

    steps = None
    while plans:
        with run.work(user, False, cancel) as work:
            steps = steps or scan.steps(work)
            if next(steps, None) is None:
                break
        yield now()
    if plans:
        yield now()


def sensitivity_steps(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    layers: Sequence[str] | None = None,
    sparsities: Sequence[float] = SPARSITIES,
    criterion: str = "l1",
    granularity: str = "weight",
    **settings: Any,
) -> Iterator[tuple[pd.DataFrame, Progress]]:
    """As :func:`sensitivity`, after every chunk: (the table so far, how far it is)."""
    base = recipe or Recipe()
    for sparsity in sparsities:
        if not 0 <= sparsity < 1:
            raise RecipeError(say("sparsity={sparsity}; accepted: 0 <= sparsity < 1", sparsity=sparsity))
    names = list(layers) if layers is not None else [layer.name for layer in subject.layers]
    known = {layer.name for layer in subject.layers}
    names = [name if name in known else subject.layer(name).name for name in names]
    candidates = {
        (name, s): base.prune(name, sparsity=s, criterion=criterion, granularity=granularity)
        for name in names
        for s in sparsities  # type: ignore[arg-type]
    }
    for progress in compare(subject, candidates, base, **settings):
        yield _table(progress), progress


def _table(progress: Progress) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for (layer, sparsity), found in progress.estimates.items():
        start = found.value.value - found.change.value  # the base, on the same samples
        low, high = (None if one is None else start + one for one in (found.change.low, found.change.high))
        rows.append((layer, sparsity, found.value.value, low, high, found.change.value, found.n))
    return pd.DataFrame(rows, columns=["layer", "sparsity", "metric", "low", "high", "change", "n"])


def sensitivity(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    layers: Sequence[str] | None = None,
    sparsities: Sequence[float] = SPARSITIES,
    criterion: str = "l1",
    granularity: str = "weight",
    split: str = "validation",
    precision: str = "full",
    device: Any = None,
    exact: bool = False,
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    user: Hashable = None,
) -> pd.DataFrame:
    """Each layer cut alone, on top of ``recipe``, at each sparsity.

    Returns a table with a row a layer and sparsity: metric (the main one, a fraction), low and high (where it lies over the whole
    split, 95 %; None where the metric has no interval), change (from the recipe, on the same samples), n (samples seen).
    exact: all samples; else a point is finished once its change is known to +- ``tolerance``. ``progress(done, total)`` counts
    samples times points. Raises :class:`RecipeError`, :class:`EvaluationError`, :class:`Cancelled`; asked again, a cancelled scan
    goes on where it stopped.
    """
    last = None
    steps = sensitivity_steps(
        subject, recipe, layers=layers, sparsities=sparsities, criterion=criterion, granularity=granularity, split=split,
        precision=precision, device=device, exact=exact, tolerance=tolerance, cancel=cancel, user=user,
    )  # fmt: skip
    for table, state in steps:
        last = table
        if progress is not None:
            progress(state.done, state.total)
    if last is None:
        raise RecipeError(say("{subject}: no layers or no sparsities to scan", subject=subject.name))
    return last
