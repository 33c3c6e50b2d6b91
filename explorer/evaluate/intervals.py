"""95 % intervals. Where the literature has no dependable one (F1, R2, perplexity) there is none."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Score interval of a proportion. Source: Wilson 1927, J. Am. Stat. Assoc. 22."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = p + Z * Z / (2 * n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def newcombe(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Interval of mean(after) - mean(before) for paired bools [N]; wider than zero also without any flip.

    Source: Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10.
    """
    n = len(before)
    both = int((before & after).sum())
    lost = int((before & ~after).sum())
    won = int((~before & after).sum())
    neither = n - both - lost - won
    first, second = both + won, both + lost  # after, before
    (l1, u1), (l2, u2) = wilson(first, n), wilson(second, n)
    p1, p2 = first / n, second / n
    margins = first * (n - first) * second * (n - second)
    phi = 0.0
    if margins > 0:
        cross = both * neither - won * lost
        corrected = cross - n / 2 if cross > n / 2 else (0.0 if cross >= 0 else float(cross))
        phi = corrected / math.sqrt(margins)
    low = math.sqrt(max(0.0, (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2))
    high = math.sqrt(max(0.0, (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2))
    return max(-1.0, p1 - p2 - low), min(1.0, p1 - p2 + high)


def mean(values: Tensor) -> tuple[float, float] | tuple[None, None]:
    """Normal interval of the mean of [N] values; none below two samples."""
    if len(values) < 2:
        return None, None
    values = values.double()
    centre, half = values.mean().item(), Z * values.std().item() / math.sqrt(len(values))
    return centre - half, centre + half


def ratio(numerator: Tensor, denominator: Tensor) -> tuple[float, float] | tuple[None, None]:
    """Linearized interval of sum(numerator) / sum(denominator). Source: Cochran 1977, Sampling Techniques, 2.11."""
    total = denominator.double().sum().item()
    if len(numerator) < 2 or total == 0:
        return None, None
    value = numerator.double().sum().item() / total
    low, high = mean((numerator.double() - value * denominator.double()) * len(numerator) / total)
    assert low is not None and high is not None
    return value + low, value + high


def finite(tensor: Tensor) -> bool:
    """Whether every entry is finite."""
    return bool(torch.isfinite(tensor).all())
