"""95 % intervals. Where the literature has no dependable one (F1, R2, perplexity) there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Within:
    """A first look at ``total`` samples: the interval is one of the figure over all of them.

    z: the normal quantile, larger where one may stop at several looks. Source: Cochran 1977, Sampling Techniques, 2.6 (finite
    population correction); Bonferroni: each of L looks errs with 0.05 / L.
    """

    total: int
    z: float = Z

    @classmethod
    def looks(cls, total: int, looks: int) -> Within:
        """Of ``looks`` looks whose intervals all hold together in 95 % of cases."""
        return cls(total, NormalDist().inv_cdf(1 - 0.025 / max(1, looks)))

    def effective(self, n: int) -> float:
        """As many samples of an endless population say as much as ``n`` of these."""
        return math.inf if n >= self.total else n * (self.total - 1) / (self.total - n)


def wilson(successes: float, n: int, within: Within | None = None) -> tuple[float, float]:
    """Score interval of a proportion. Source: Wilson 1927, J. Am. Stat. Assoc. 22."""
    if n == 0:
        return 0.0, 1.0
    p, z = successes / n, within.z if within else Z
    size = within.effective(n) if within else n
    if size == math.inf:
        return p, p
    centre = p + z * z / (2 * size)
    half = z * math.sqrt(p * (1 - p) / size + z * z / (4 * size * size))
    scale = 1 + z * z / size
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def newcombe(before: Tensor | np.ndarray, after: Tensor | np.ndarray, within: Within | None = None) -> tuple[float, float]:
    """Interval of mean(after) - mean(before) for paired bools [N]; wider than zero also without any flip.

    Source: Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10.
    """
    was, now = (one.numpy(force=True) if isinstance(one, Tensor) else one for one in (before, after))
    first, second, both = (int(np.count_nonzero(one)) for one in (was, now, was & now))
    return newcombe_of(first, second, both, len(was), within)


def newcombe_of(before: int, after: int, both: int, n: int, within: Within | None = None) -> tuple[float, float]:
    """:func:`newcombe` of how many of ``n`` are true before, after, and in both."""
    first, second = after, before
    won, lost = first - both, second - both
    neither = n - both - lost - won
    (l1, u1), (l2, u2) = wilson(first, n, within), wilson(second, n, within)
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


def moments(values: Tensor | np.ndarray) -> tuple[float, float]:
    """(mean, standard deviation) of [N] values in float64; by NumPy, which takes a third of the time of torch's for as few as these."""
    exact = values.double().numpy(force=True) if isinstance(values, Tensor) else values.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):  # infinite values have none
        centre = float(np.add.reduce(exact)) / len(exact) if len(exact) else math.nan
        exact = exact - centre
        return centre, math.sqrt(float(exact @ exact) / max(1, len(exact) - 1))


def mean(values: Tensor, within: Within | None = None) -> tuple[float, float] | tuple[None, None]:
    """Normal interval of the mean of [N] values; none below two samples."""
    return around(*moments(values), len(values), within)


def around(centre: float, deviation: float, n: int, within: Within | None = None) -> tuple[float, float] | tuple[None, None]:
    """Normal interval of a mean, from the moments of ``n`` values; none below two samples."""
    if n < 2:
        return None, None
    half = (within.z if within else Z) * deviation / math.sqrt(within.effective(n) if within else n)
    return centre - half, centre + half


def ratio(
    numerator: Tensor, denominator: Tensor, within: Within | None = None
) -> tuple[float, float] | tuple[None, None]:
    """Linearized interval of sum(numerator) / sum(denominator). Source: Cochran 1977, Sampling Techniques, 2.11."""
    total = denominator.double().sum().item()
    if len(numerator) < 2 or total == 0:
        return None, None
    value = numerator.double().sum().item() / total
    low, high = mean((numerator.double() - value * denominator.double()) * len(numerator) / total, within)
    assert low is not None and high is not None
    return value + low, value + high


def finite(tensor: Tensor) -> bool:
    """Whether every entry is finite."""
    return bool(torch.isfinite(tensor).all())
