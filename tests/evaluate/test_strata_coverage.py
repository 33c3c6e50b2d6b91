"""An adaptive scan that sees doubtful samples first covers the whole split's change as often as it says, wherever answers change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import poisson

from explorer.evaluate.allocation import EDGES, SHARES, Allocation
from explorer.evaluate.design import Stratified
from explorer.evaluate.intervals import Z
from explorer.evaluate.metrics.classification import Classification
from explorer.evaluate.rates import Counted
from explorer.evaluate.stopping import FIRST_LOOK, IN_STRATA
from tests.evaluate.test_coverage import of, stopped

PROFILES: dict[str, Any] = {  # how often answers change along the ranks of doubt
    "low": lambda rank: np.exp(-8 * rank),
    "even": np.ones_like,
    "high": lambda rank: rank > 0.8,  # where nobody would look for it
    "middle": lambda rank: (rank > 0.3) & (rank < 0.5),
}


KINDS = 10
World = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def world(total: int, rate: float, profile: str, won: float, rng: np.random.Generator, slope: float = 0.0) -> World:
    """(certainty, before, after, kind): about ``rate`` of the answers change, of these a fraction ``won`` for the better. slope: how much more
    in some kinds of samples than in others, from 0 to 1."""
    certainty, kinds = rng.permutation(total) / total, rng.integers(0, KINDS, total)
    chance = PROFILES[profile](certainty).astype(float) * (1 + slope * np.linspace(-1, 1, KINDS)[kinds])
    flips = rng.random(total) < np.minimum(1, chance * rate / chance.mean())
    before = np.where(flips, rng.random(total) >= won, rng.random(total) < 0.9)
    return certainty, before, before ^ flips, kinds


def ended(
    certainty: np.ndarray, before: np.ndarray, after: np.ndarray, kinds: np.ndarray | None, tolerance: float
) -> tuple[bool, int]:
    """(whether the interval at which the scan ends a point holds the split's change, samples)."""
    total, allocation = len(before), Allocation(certainty, 64, kinds)
    was, now = (torch.from_numpy(one[allocation.order]) for one in (before, after))
    design = Stratified(Classification(), "validation", allocation, was)
    n, found = stopped(design, lambda n: (of(was[:n]), of(now[:n])), total, tolerance, errors=IN_STRATA)
    truth = float(after.mean() - before.mean())
    return found is None or found[0] - 1e-9 <= truth <= found[1] + 1e-9, n


def covered(
    runs: int, total: int, tolerance: float, worlds: list[tuple[float, str, float]], slope: float = 0.0
) -> dict[Any, tuple[float, float]]:
    rng, out = np.random.default_rng(0), {}
    for one in worlds:
        held, sizes = zip(*(ended(*world(total, *one, rng, slope), tolerance) for _ in range(runs)), strict=True)
        out[one] = float(np.mean(held)), float(np.mean(sizes))
    return out


def test_where_doubtful_answers_change_it_covers_and_needs_few_samples() -> None:
    found = covered(60, 10_000, 0.005, [(0.001, "low", 0.3), (0.02, "low", 0.3), (0.02, "even", 0.3)])
    assert np.mean([held for held, _ in found.values()]) >= 0.94, found
    assert found[0.001, "low", 0.3][1] < 1000 and found[0.02, "low", 0.3][1] < 0.6 * found[0.02, "even", 0.3][1], found


@pytest.mark.slow
@pytest.mark.parametrize(("total", "slope"), [(3000, 1.0), (10_000, 0.0), (10_000, 1.0), (40_000, 0.5)])
@pytest.mark.parametrize("profile", list(PROFILES))
def test_it_covers_wherever_answers_change(total: int, profile: str, slope: float) -> None:
    worlds = [(rate, profile, won) for rate in (0.0003, 0.001, 0.003, 0.01, 0.1, 0.5) for won in (0.0, 0.4)]
    found = covered(300, total, 0.005, worlds, slope)
    assert min(held for held, _ in found.values()) >= 0.92, found  # 0.95 less 2.4 standard errors of 300 runs
    assert np.mean([held for held, _ in found.values()]) >= 0.95, found


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 3000), st.integers(0, 64), st.integers(0, 9))
def test_an_order_holds_every_sample_once_and_of_the_doubtful_more(n: int, first: int, seed: int) -> None:
    certainty = np.random.default_rng(seed).normal(size=n)
    made = Allocation(certainty, min(first, n))
    assert sorted(made.order.tolist()) == list(range(n)) and set(made.order[:first].tolist()) == set(
        range(min(first, n))
    )
    assert made.sizes.sum() == n and np.array_equal(made.seen(n), made.sizes)
    rank = certainty.argsort().argsort()
    for one in range(len(SHARES)):  # within a stratum the split's order stays
        inside = made.order[made.strata == one]
        assert np.all(np.diff(inside) > 0)
        assert np.array_equal(np.sort(rank[inside]), np.arange(made.sizes[:one].sum(), made.sizes[: one + 1].sum()))
    n_seen = np.arange(1, n + 1)
    assert np.array_equal(made.seen(n_seen).sum(1), n_seen) and np.all(np.diff(made.seen(n_seen), axis=0) >= 0)
    if n > 500:
        share = made.seen(n // 4) / made.sizes
        assert np.all(np.diff(share) < 0.05) and share[0] > 2 * share[-1]
    flags = np.random.default_rng(seed + 1).random((2, n)) < 0.3
    counted = made.counted(*flags)
    assert counted.won.sum() == (flags[1] & ~flags[0]).sum() and counted.lost.sum() == (flags[0] & ~flags[1]).sum()
    assert np.array_equal(counted.seen, made.sizes)


def test_within_a_stratum_each_kind_is_seen_in_proportion_and_only_what_differs_in_it_is_uncertain() -> None:
    rng = np.random.default_rng(0)
    certainty, kinds, was = rng.normal(size=8000), rng.integers(0, 5, 8000), rng.random(8000) < 0.9
    made = Allocation(certainty, 64, kinds)
    for n in (600, 2000, 5000):
        for stratum in range(len(SHARES)):
            every, seen = (
                np.bincount(kinds[made.order[:last]][made.strata[:last] == stratum], minlength=5) for last in (8000, n)
            )
            assert np.all(np.abs(seen / seen.sum() - every / every.sum()) < 0.04)
    was, kind, n = was[made.order], kinds[made.order], 2000
    spoilt = np.where(kind < 2, False, was)  # two kinds are always wrong now
    found = made.counted(was[:n], spoilt[:n])
    for stratum, (won, lost, both) in enumerate(np.moveaxis(found.spread, 0, 1)):  # type: ignore[arg-type]
        inside = made.strata[:n] == stratum
        answers, of = (was & ~spoilt)[:n][inside].astype(float), kind[:n][inside]
        cells = [answers[of == one] for one in range(5)]
        assert (
            lost == pytest.approx(sum(((cell - cell.mean()) ** 2).sum() for cell in cells) / (len(answers) - 5))
            and won == both == 0
        )
        assert lost < 0.5 * answers.var()
    low, high = Counted(found.won, found.lost, found.seen, found.sizes).interval(Z)
    assert np.diff(found.interval(Z)) < 0.7 * (high - low)


def test_limits_of_one_stratum_are_those_of_the_binomial_and_nothing_seen_is_not_nothing() -> None:
    sizes = np.array([10**9])
    many = Counted(np.array([400]), np.array([100]), np.array([10_000]), sizes)
    low, high = many.interval(Z)
    half = Z * (0.05 / 10_000 - 0.03**2 / 10_000) ** 0.5  # Wald's, which is right for so many events
    assert (low, high) == (
        pytest.approx(0.03 - half, abs=2e-4),
        pytest.approx(0.03 + half, abs=2e-4),
    ) and many.change == pytest.approx(0.03)
    none = Counted(np.zeros(1), np.zeros(1), np.array([1000]), sizes).interval(Z)
    assert none[1] == -none[0] and 3 / 1000 < none[1] < 3.7 / 1000  # the rule of three; exact limits of 97.5 %: 3.7
    of_all = Counted(np.array([40]), np.array([10]), np.array([1000]), np.array([1000]))
    assert of_all.interval(Z) == (pytest.approx(0.03), pytest.approx(0.03))
    beyond = of_all.interval(Z, beyond=True)
    assert beyond[0] < 0.03 - 0.8 * Z * 0.007 and beyond[1] > 0.03 + 0.8 * Z * 0.007


def test_limits_of_a_rate_are_nearly_exact() -> None:
    """Of a Poisson mean: Garwood 1936, Biometrika 28; the upper one between those of the mid-p value and these. Nothing was won, and what was
    not won has limits of its own."""
    garwood = {0: (0.0, 3.689), 1: (0.0253, 5.572), 5: (1.6235, 11.668), 20: (12.217, 30.888)}
    for events, (low, high) in garwood.items():
        found = Counted(np.array([events]), np.zeros(1), np.array([10**6]), np.array([10**12]))
        down, up = ((end - found.change) * 10**6 for end in found.interval(Z))
        middle = brentq(lambda m: poisson.cdf(events - 1, m) + 0.5 * poisson.pmf(events, m) - 0.025, 1e-6, 99)  # noqa: B023
        assert middle - events <= up + 0.001 <= 0.4 * middle + 0.6 * high - events
        if not events:
            none = up
        assert -down == pytest.approx(np.hypot(events - low, none), rel=0.04)


def test_of_few_samples_all_strata_hold_some() -> None:
    made = Allocation(np.random.default_rng(0).normal(size=4000), 64)
    assert made.seen(FIRST_LOOK).min() > 40 and len(EDGES) + 1 == len(SHARES)
