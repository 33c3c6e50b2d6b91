"""What the threshold view draws: histogram, quantiles, unit scores. Plain numbers, ready for the screen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.subject import Subject
from .importance import importance

QUANTILES = 513


@dataclass(frozen=True)
class Histogram:
    """counts over equal bins of [low, high]; quantiles: 513 of the *score*, ascending, for the fraction below a cut."""

    low: float
    high: float
    counts: tuple[int, ...]
    quantiles: tuple[float, ...]
    entries: int
    signed: bool


def quantiles(scores: Tensor, n: int = QUANTILES) -> tuple[float, ...]:
    """``n`` evenly spaced quantiles by sorting (``torch.quantile`` caps its size)."""
    ordered = scores.flatten().float().sort().values
    at = torch.linspace(0, len(ordered) - 1, n).round().long()
    return tuple(ordered[at].tolist())


def histogram(subject: Subject, layer: str, criterion: str = "l1", bins: int = 161) -> Histogram:
    """The layer's weights (where the criterion's score is |w|), else its scores. Cached by content."""

    def compute() -> Histogram:
        from .criteria import registry

        signed = registry[criterion].signed_axis
        scores = importance(subject, criterion, layers=[layer])[layer]
        shown = (subject.weight(layer) if signed else scores).flatten().float()
        high = float(shown.abs().max()) if signed else float(shown.max())
        low = -high if signed else float(shown.min())
        if high <= low:
            low, high = low - 0.5, high + 0.5
        counts = torch.histc(shown.cpu(), bins, low, high).long()
        return Histogram(low, high, tuple(counts.tolist()), quantiles(scores), scores.numel(), signed)

    return subject.memo.get(("histogram", subject.version, layer, criterion, bins), compute)


def sorted_units(subject: Subject, group: str, criterion: str = "l1") -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scores of a group's units, ascending, and the units in that order."""

    def compute() -> tuple[tuple[float, ...], tuple[int, ...]]:
        scores = importance(subject, criterion, granularity="unit", layers=[group])[group]
        ordered = scores.float().cpu().sort(stable=True)
        return tuple(ordered.values.tolist()), tuple(ordered.indices.tolist())

    return subject.memo.get(("units", subject.version, group, criterion), compute)


def sorted_blocks(subject: Subject, criterion: str = "l1", without: frozenset[str] = frozenset()) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Scores of the removable blocks, ascending, and their names; of those that hold none of the layers ``without``."""

    def compute() -> dict[str, float]:
        return {name: float(score) for name, score in importance(subject, criterion, granularity="layer").items()}

    scores = subject.memo.get(("blocks", subject.version, criterion), compute)
    free = [group.name for group in subject.blocks if not without.intersection(group.producers)]
    ordered = sorted(free, key=scores.__getitem__)
    return tuple(scores[name] for name in ordered), tuple(ordered)
