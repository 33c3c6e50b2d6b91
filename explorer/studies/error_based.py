"""Error-based pruning: units go, cheapest first, as long as the model without them errs little more; every decision is kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from ..core.errors import Cancelled
from ..core.recipe import Recipe
from ..evaluate.error_search import Search
from ..evaluate.error_trace import SAMPLES, ErrorPruning, Terms, Trial
from ..models.subject import Subject

__all__ = ["ErrorPruning", "Terms", "Trial", "prune_by_error", "prune_by_error_steps"]


def prune_by_error(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    allowance: float = Terms.allowance,
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
    found = None
    terms = Terms(allowance, total, targets, split, samples)
    for found in prune_by_error_steps(  # noqa: B007
        subject, recipe, terms, device=device, precision=precision, cancel=cancel, user=user
    ):
        if progress is not None:
            gone = sum(trial.removed for trial in found.trace)
            progress(gone, gone + sum(found.kept.values()))
    assert found is not None
    return found


def prune_by_error_steps(
    subject: Subject,
    recipe: Recipe | None = None,
    terms: Terms | None = None,
    **settings: Any,
) -> Iterator[ErrorPruning]:
    """As :func:`prune_by_error`, after every decision: what is known so far. settings: device, precision, cancel, user,
    and ``progress(units scored, units)`` of the scoring that a round begins with."""
    search = Search(subject, recipe or Recipe(), terms or Terms(), settings)
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
