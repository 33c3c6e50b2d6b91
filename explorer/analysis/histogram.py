"""What the threshold view draws: histogram, quantiles, unit scores. Plain numbers, ready for the screen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.subject import Subject
from .criteria import registry
from .importance import importance
from .tally import Tally
from .words import layer_tally

QUANTILES = 513
LARGE = 1 << 22  # entries from which on a weight is counted by its bits instead of sorted


@dataclass(frozen=True)
class Histogram:
    """counts over equal bins of [low, high]; quantiles: 513 of the *score*, ascending, for the fraction below a cut.

    warp: the bins are equal in sign(s) |s|^warp; below 1 where most scores crowd near 0, as products with gradients do, and weights
    beside huge ones.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    quantiles: tuple[float, ...]
    entries: int
    signed: bool
    warp: float = 1.0


def warped(scores: Tensor, warp: float) -> Tensor:
    """sign(s) |s|^warp"""
    return scores if warp == 1 else scores.sign() * scores.abs() ** warp


def warp_of(scores: Tensor) -> float:
    """The exponent at which the median lies at a fifth of the range or more."""
    size = scores.abs()
    high = float(size.max())
    share = float(size.median()) / high if high > 0 else 1.0
    return next((w for w in (1.0, 0.5, 0.25) if share >= 0.1 and w == 1 or share**w >= 0.2), 0.125)


def _outliers(weights: Tensor, apart: float = 200.0) -> bool:
    """Whether the largest weight is so far out that on an even scale all others would stand in a bin or two."""
    size = weights.abs()
    return float(size.max()) > apart * float(size.median()) > 0


def quantiles(scores: Tensor, n: int = QUANTILES) -> tuple[float, ...]:
    """``n`` evenly spaced quantiles by sorting (``torch.quantile`` caps its size)."""
    ordered = scores.flatten().float().sort().values
    at = torch.linspace(0, len(ordered) - 1, n).round().long()
    return tuple(ordered[at].tolist())


def histogram(subject: Subject, layer: str, criterion: str = "l1", bins: int = 161) -> Histogram:
    """The layer's weights (where the criterion's score is |w|), else its scores. Cached by content."""

    def compute() -> Histogram:
        signed = registry[criterion].signed_axis
        if signed and next((one.numel for one in subject.layers if one.name == layer), 0) >= LARGE:
            counted = layer_tally(subject, layer)
            if counted is not None and not counted.not_finite:
                return of_tally(counted, bins)
        scores = importance(subject, criterion, layers=[layer])[layer]
        shown = (subject.weight(layer) if signed else scores).flatten().float()
        high = float(shown.abs().max()) if signed else float(shown.max())
        low = -high if signed else float(shown.min())
        if high <= low:
            low, high = low - 0.5, high + 0.5
        warp = 1.0 if signed and not _outliers(shown) else warp_of(shown)
        ends = warped(torch.tensor([low, high], dtype=torch.float64), warp).tolist()
        counts = torch.histc(warped(shown.cpu(), warp).clamp(*ends), bins, *ends).long()
        return Histogram(low, high, tuple(counts.tolist()), quantiles(scores), scores.numel(), signed, warp)

    return subject.memo.get(("histogram", subject.version, layer, criterion, bins, registry.generation), compute)


def of_tally(counted: Tally, bins: int) -> Histogram:
    """Of a weight that was counted by its bits: exact for 16-bit formats, for wider ones to their bins, 128 to every power of two."""
    high, counts = counted.histogram(bins)
    return Histogram(-high, high, tuple(counts.tolist()), tuple(counted.quantiles(QUANTILES).tolist()), counted.total, True)


def sorted_units(subject: Subject, group: str, criterion: str = "l1") -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scores of a group's units, ascending, and the units in that order."""

    def compute() -> tuple[tuple[float, ...], tuple[int, ...]]:
        scores = importance(subject, criterion, granularity="unit", layers=[group])[group]
        ordered = scores.float().cpu().sort(stable=True)
        return tuple(ordered.values.tolist()), tuple(ordered.indices.tolist())

    return subject.memo.get(("units", subject.version, group, criterion, registry.generation), compute)


def sorted_blocks(
    subject: Subject, criterion: str = "l1", without: frozenset[str] = frozenset()
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Scores of the removable blocks, ascending, and their names; of those that hold none of the layers ``without``."""

    def compute() -> dict[str, float]:
        return {name: float(score) for name, score in importance(subject, criterion, granularity="layer").items()}

    scores = subject.memo.get(("blocks", subject.version, criterion, registry.generation), compute)
    free = [
        group.name for group in subject.blocks if group.name in scores and not without.intersection(group.producers)
    ]
    ordered = sorted(free, key=scores.__getitem__)
    return tuple(scores[name] for name in ordered), tuple(ordered)
