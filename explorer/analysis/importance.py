"""Scores of weights and of units under a criterion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..core.errors import RecipeError, UnsupportedError
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
        names = [layer.name for layer in subject.layers] if layers is None else list(layers)
        return weight_scores(subject, entry, names, samples, seed)
    if granularity != "unit":
        raise RecipeError(f"granularity={granularity!r}; accepted: weight, unit")
    cuts = subject.structure.cuts
    chosen = [cuts[name] for name in (cuts if layers is None else layers)]
    return {cut.group.name: unit_scores(subject, entry, cut, samples, seed) for cut in chosen}


def weight_scores(subject: Subject, entry: Criterion, names: list[str], samples: int, seed: int) -> dict[str, Tensor]:
    """{layer: scores of its shape}; non-finite scores are refused, since no ranking of them means anything."""
    for name in names:
        why = entry.is_compatible(subject, name)
        if why:
            raise UnsupportedError(f"{name}: {why}")
    found = entry.scores(subject, names, samples, seed)
    for name, scores in found.items():
        key = ("finite", subject.version, type(entry), name)
        if not subject.memo.get(key, lambda scores=scores: bool(torch.isfinite(scores).all())):  # type: ignore[misc]
            raise UnsupportedError(f"{name}: its scores hold NaN or infinity (as its weights may); nothing to rank")
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
