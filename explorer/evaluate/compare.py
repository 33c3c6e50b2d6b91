"""Any recipes against a base on the same samples: the one pass behind sensitivity, suggestions and error-based pruning."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..compress.resolve import resolve
from ..core.errors import RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..models.device import pick
from ..models.subject import Subject
from .engine import engine
from .evaluator import PRECISIONS
from .scan import Estimate, Scan, scan_of

TOLERANCE = 0.005  # an adaptive scan stops a point when its change is known to +- this

Candidates = Mapping[Any, Recipe]


@dataclass(frozen=True)
class Progress:
    """A scan on its way. estimates: {key of the candidate: what is known of it}; metric: the main one's name; settled: candidates
    that are finished; done, total: samples times candidates."""

    estimates: Mapping[Any, Estimate]
    metric: str
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
    samples: int | None = None,
    resume: bool = True,
    cancel: Callable[[], bool] | None = None,
    user: Hashable = None,
) -> Iterator[tuple[Scan, Callable[[], Progress]]]:
    """Judge any recipes against a base (the original) on the same samples; all of them sharpen with every chunk.

    Yields after every chunk the scan, and what says how far it is: to be called before the next step, and only where somebody
    looks, since it costs as much as a small chunk.

    candidates: {key: recipe}. exact: every sample for every one; else one is finished once its change of the main metric is known
    to within ``tolerance`` (95 %, over all looks together; fractions). samples: only so many, the
    first of the split's stratified order, for every candidate. A scan that was cancelled, or left, goes on where it
    stopped when the same is asked again, unless ``resume`` is False. Raises as :func:`explorer.evaluate`.
    """
    if precision not in PRECISIONS:
        raise RecipeError(
            say(
                "precision={precision!r}; accepted: {precisions}", precision=precision, precisions=", ".join(PRECISIONS)
            )
        )
    if not exact and not (isinstance(tolerance, (int, float)) and tolerance > 0):
        raise RecipeError(say("tolerance={tolerance}; accepted: a fraction above 0", tolerance=tolerance))
    with subject.steady():
        plans = {key: resolve(subject, recipe) for key, recipe in candidates.items()}
        run, reference, wanted = (
            engine(subject, pick(device), precision),
            resolve(subject, base or Recipe()),
            list(plans.values()),
        )
        scan = scan_of(run, reference, wanted, split, None if exact else tolerance, samples, resume)

    def now() -> Progress:
        found = {key: scan.estimate(plan.digest) for key, plan in plans.items()}
        return Progress(found, scan.metric, len(scan.settled), *scan.work_done)

    steps = None
    while plans:
        with run.work(user, False, cancel) as work:
            steps = steps or scan.steps(work)
            if next(steps, None) is None:
                break
        yield scan, now
    if plans:
        yield scan, now
