"""Scores of weights and of units under a criterion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..core.errors import RecipeError, UnsupportedError, near
from ..core.message import say
from ..models.structure import Cut
from ..models.subject import Subject
from .criteria import Criterion, registry


def importance(
    subject: Subject,
    criterion: str = "l1",
    *,
    granularity: Literal["weight", "unit"] = "weight",
    layers: Sequence[str] | None = None,
    samples: int = 1024,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Scores under a criterion; small means unimportant.

    granularity "weight": {layer: Tensor of the weight's shape}; "unit": {group: Tensor [units]}.
    layers: only these layers (or, for units, groups). samples, seed: for criteria that look at (train) data.
    Raises :class:`RecipeError` for unknown names, :class:`UnsupportedError` where the criterion does not apply.
    """
    entry = registry[criterion]()
    if granularity == "weight":
        return weight_scores(subject, entry, _known(layers, [layer.name for layer in subject.layers]), samples, seed)
    if granularity != "unit":
        raise RecipeError(say("granularity={granularity!r}; accepted: weight, unit", granularity=granularity))
    cuts = subject.structure.cuts
    chosen = _known(layers, list(cuts))
    return {name: unit_scores(subject, entry, cuts[name], samples, seed) for name in chosen}


def _known(names: Sequence[str] | None, there: list[str]) -> list[str]:
    """The names asked for, or all; one that is not there is an error."""
    for name in names or ():
        if name not in there:
            raise RecipeError(say("no layer or group {name!r} to score; {hint}", name=name, hint=near(name, there)))
    return there if names is None else list(names)


def weight_scores(subject: Subject, entry: Criterion, names: list[str], samples: int, seed: int) -> dict[str, Tensor]:
    """{layer: scores of its shape}; non-finite scores are refused, since no ranking of them means anything."""
    for name in names:
        why = entry.is_compatible(subject, name)
        if why:
            raise UnsupportedError(say("{name}: {why}", name=name, why=why))
    found = entry.scores(subject, names, samples, seed)
    for name, scores in found.items():
        key = ("finite", subject.version, type(entry), name, samples, seed)
        if not subject.memo.get(key, lambda scores=scores: bool(torch.isfinite(scores).all())):  # type: ignore[misc]
            raise UnsupportedError(
                say("{name}: its scores hold NaN or infinity (as its weights may); nothing to rank", name=name)
            )
    return found


def unit_scores(subject: Subject, entry: Criterion, cut: Cut, samples: int, seed: int) -> Tensor:
    """[units]: the criterion aggregated over the rows of every producer of the group."""
    scores = weight_scores(subject, entry, list(cut.group.producers), samples, seed)
    rows = []
    for piece in cut.slices:
        if piece.role == "producer":
            moved = scores[piece.tensor].movedim(piece.dim, 0)
            rows.append(moved[piece.index.to(moved.device)].reshape(cut.group.units, -1))  # [units, k * rest]
    return entry.aggregate(torch.cat(rows, 1))
