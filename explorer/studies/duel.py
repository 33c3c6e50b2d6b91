"""Criteria against each other: accuracy against sparsity, at the same sparsities, on the same layers and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ..analysis.criteria import registry
from ..analysis.importance import importance
from ..core.errors import Cancelled, RecipeError, UnsupportedError
from ..core.message import say
from ..core.recipe import Recipe
from ..evaluate.evaluator import evaluate
from ..models.subject import Subject

if TYPE_CHECKING:
    import pandas as pd

SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
FLOOR, CEILING = "random", "loss-change"


@dataclass(frozen=True)
class Point:
    """One measured point: value of the task's main metric on n samples of ``split``, with its 95 % interval where there is one."""

    criterion: str
    sparsity: float
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    split: str


def contestants(subject: Subject, criteria: Sequence[str], granularity: str) -> tuple[list[str], dict[str, str]]:
    """(layers, or groups, that every criterion can score; {criterion: why it scores none}, which are left out)."""
    places = (
        [group.name for group in subject.groups] if granularity == "unit" else [layer.name for layer in subject.layers]
    )
    out: dict[str, str] = {}
    for criterion in criteria:
        entry = registry[criterion]()
        able = [place for place in places if entry.is_compatible(subject, place) is None]
        if able:
            places = able
        else:
            out[criterion] = entry.is_compatible(subject, places[0]) or "" if places else say("nothing to score")
    return places, out


def duel(
    subject: Subject,
    criteria: Sequence[str] = (FLOOR, "l1", "taylor"),
    *,
    granularity: Literal["weight", "unit"] = "weight",
    scope: Literal["layer", "global"] = "layer",
    sparsities: Sequence[float] = SPARSITIES,
    split: str = "validation",
    samples: int | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Point]:
    """Measure each criterion at each sparsity, as it goes: low sparsities of all criteria first.

    Only layers (or, with granularity="unit", groups) that every one of them can score are pruned, the same for all; a criterion that
    scores none raises. samples: of the split, stratified; None for all. "random" is the floor; "loss-change" the
    reference, exact for what goes alone, but no ceiling where much goes together: its losses do not add up.
    Raises :class:`RecipeError`, :class:`UnsupportedError`, :class:`Cancelled`.
    """
    if granularity not in ("weight", "unit"):
        raise RecipeError(say("granularity={granularity!r}; accepted: weight, unit", granularity=granularity))
    places, out = contestants(subject, criteria, granularity)
    for criterion, why in out.items():
        raise UnsupportedError(say("{criterion}: {why}", criterion=criterion, why=why))
    if not places:
        raise UnsupportedError(
            say("{name}: nothing that all of {criteria} can score", name=subject.name, criteria=", ".join(criteria))
        )
    targets = (
        places if granularity == "weight" else [subject.structure.cuts[place].group.producers[0] for place in places]
    )
    work, done = len(criteria) * (len(sparsities) + 1), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, work)

    for criterion in criteria:  # scores first: the slow part, each with its own cancel
        importance(subject, criterion, granularity=granularity, layers=places, device=device, cancel=cancel)
        step()
    for sparsity in sparsities:
        for criterion in criteria:
            if cancel is not None and cancel():
                raise Cancelled(
                    say("{what}: cancelled after {done} of {total}", what=subject.name, done=done, total=work)
                )
            recipe = Recipe()
            if sparsity > 0:
                recipe = recipe.prune(
                    targets, sparsity=sparsity, criterion=criterion, granularity=granularity, scope=scope
                )
            report = evaluate(subject, recipe, split=split, samples=samples, device=device, cancel=cancel)
            figure = report.figure(report.main)
            yield Point(criterion, sparsity, report.main, figure.value, figure.low, figure.high, report.n, split)
            step()


def frame(points: Sequence[Point]) -> pd.DataFrame:
    """Points as a table: criterion, sparsity, metric, value, low, high, n, split."""
    import pandas as pd

    columns = list(Point.__dataclass_fields__)
    return pd.DataFrame([[getattr(point, name) for name in columns] for point in points], columns=columns)
