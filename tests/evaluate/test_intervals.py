from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from explorer.evaluate import intervals


def pairs(both: int, lost: int, won: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    before = torch.tensor([True] * both + [True] * lost + [False] * won + [False] * neither)
    after = torch.tensor([True] * both + [False] * lost + [True] * won + [False] * neither)
    return before, after


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_equals_scipy(n: int, share: float) -> None:
    k = round(share * n)
    low, high = intervals.wilson(k, n)
    expected = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    assert low == pytest.approx(max(0, expected.low), abs=1e-9) and high == pytest.approx(
        min(1, expected.high), abs=1e-9
    )
    assert 0 <= low <= k / n + 1e-12 and k / n - 1e-12 <= high <= 1


def test_wilson_of_nothing() -> None:
    assert intervals.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009): 2/21 against 8/21; the
        # interval as in Fagerland, Lydersen, Laake 2014, Statistics in Medicine 33, table V
        ((1, 1, 7, 12), -0.507, -0.026),
    ],
)
def test_newcombe_against_a_published_example(table: tuple[int, ...], low: float, high: float) -> None:
    both, first_only, second_only, neither = table
    # their difference is first - second: "after" is the first measurement here
    found = intervals.newcombe(*pairs(both, second_only, first_only, neither))
    assert found == pytest.approx((low, high), abs=6e-4)


def newcombe_by_the_book(e: int, f: int, g: int, h: int) -> tuple[float, float]:
    """Newcombe 1998, Statistics in Medicine 17, 2635, method 10, for (e+f)/n - (e+g)/n, with scipy's Wilson limits."""
    n = e + f + g + h
    wilson = [stats.binomtest(k, n).proportion_ci(0.95, "wilson") for k in (e + f, e + g)]
    p1, p2 = (e + f) / n, (e + g) / n
    product = (e + f) * (g + h) * (e + g) * (f + h)
    a = e * h - f * g
    phi = 0.0 if product == 0 else (max(a - n / 2, 0) if a > 0 else a) / math.sqrt(product)
    dl1, du1, dl2, du2 = p1 - wilson[0].low, wilson[0].high - p1, p2 - wilson[1].low, wilson[1].high - p2
    delta = math.sqrt(max(0, dl1**2 - 2 * phi * dl1 * du2 + du2**2))
    epsilon = math.sqrt(max(0, du1**2 - 2 * phi * du1 * dl2 + dl2**2))
    return max(-1, p1 - p2 - delta), min(1, p1 - p2 + epsilon)


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.integers(0, 60)] * 4).filter(lambda t: sum(t) > 0))
def test_newcombe_against_an_independent_implementation(table: tuple[int, int, int, int]) -> None:
    both, won, lost, neither = table
    found = intervals.newcombe(*pairs(both, lost, won, neither))
    assert found == pytest.approx(newcombe_by_the_book(both, won, lost, neither), abs=1e-7)
    low, high = found
    assert -1 <= low <= (won - lost) / sum(table) + 1e-12 and (won - lost) / sum(table) - 1e-12 <= high <= 1


@pytest.mark.parametrize("n", [1, 2, 32, 1000])
def test_no_flip_is_not_certainty(n: int) -> None:
    for right in (torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool), torch.arange(n) % 2 == 0):
        low, high = intervals.newcombe(right, right)
        assert low <= 0 <= high and (high - low > 0 or 0 < right.sum() < n)
    low, high = intervals.newcombe(torch.ones(n, dtype=torch.bool), torch.ones(n, dtype=torch.bool))
    assert low < 0 < high


def test_swapping_before_and_after_mirrors_the_interval() -> None:
    low, high = intervals.newcombe(*pairs(40, 7, 3, 12))
    swapped = intervals.newcombe(*pairs(40, 3, 7, 12))
    assert swapped == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("n", "cells"),
    [
        (64, (0.8, 0.06, 0.04, 0.1)),
        (256, (0.88, 0.02, 0.01, 0.09)),
        (512, (0.5, 0.15, 0.05, 0.3)),
        (64, (0.4, 0.3, 0.1, 0.2)),
    ],
)
def test_newcombe_covers_the_truth(n: int, cells: tuple[float, ...]) -> None:
    rng, truth, covered, rounds = np.random.default_rng(0), cells[2] - cells[1], 0, 1500
    for both, lost, won, neither in rng.multinomial(n, cells, size=rounds).tolist():
        low, high = newcombe_by_counts(both, lost, won, neither)
        covered += low <= truth <= high
    assert covered / rounds >= 0.94


def newcombe_by_counts(both: int, lost: int, won: int, neither: int) -> tuple[float, float]:
    return intervals.newcombe(*pairs(both, lost, won, neither))


def test_mean_and_ratio() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    half = 1.959964 * values.std().item() / 2
    assert intervals.mean(values) == pytest.approx((3 - half, 3 + half), rel=1e-5)
    assert intervals.mean(values[:1]) == (None, None)
    ones = torch.ones(4)
    assert intervals.ratio(values, ones) == pytest.approx(intervals.mean(values))
    assert intervals.ratio(values, torch.zeros(4)) == (None, None)
    low, high = intervals.ratio(torch.tensor([1.0, 4.0, 2.0]), torch.tensor([2.0, 8.0, 4.0]))
    assert low == pytest.approx(0.5) == high  # every sample has the same ratio
    generator, covered = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        den = torch.randint(1, 9, (200,), generator=generator).double()
        num = den * 0.3 + torch.randn(200, generator=generator)
        low, high = intervals.ratio(num, den)
        covered += low <= 0.3 <= high
    assert covered >= 0.92 * 400
