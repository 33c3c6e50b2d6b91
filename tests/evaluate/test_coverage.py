"""Intervals of first looks cover the whole split's change as often as they say, stopping rules included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.evaluate import intervals, stopping
from explorer.evaluate.data import stratified_order
from explorer.evaluate.design import Design, Proportional
from explorer.evaluate.intervals import Within, newcombe, wilson
from explorer.evaluate.metrics import Table
from explorer.evaluate.metrics.classification import Classification


def population(
    total: int, right: float, lost: float, won: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """(before, after, class, margin) of a split: whether each sample is answered right, some classes better than others; answers
    change mostly where the margin is small."""
    classes = rng.integers(0, 10, total)
    before = rng.random(total) < np.clip(right + 0.05 * (classes - 4.5) / 4.5, 0, 1)
    size = rng.random(total)
    near = np.where(size < 0.25, 3.7, 0.1)  # flips sit at the lowest quarter
    after = np.where(
        before, rng.random(total) >= np.clip(lost * near, 0, 1), rng.random(total) < np.clip(won * near, 0, 1)
    )
    return torch.from_numpy(before), torch.from_numpy(after), classes, np.where(before, size, -size)


def drawn(
    total: int, setting: tuple[float, float, float], run: int, pool: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(before, after) in the order in which the samples of a split are seen."""
    before, after, classes, margins = population(total, *setting, rng)
    first = stratified_order(classes, total, run)
    if pool:
        head = first[:pool]
        first = np.concatenate([head[stratified_order(classes[head], pool, run + 1, margins[head])], first[pool:]])
    order = torch.from_numpy(first.astype("int64"))
    return before[order], after[order]


def covered(
    runs: int,
    total: int,
    looks: list[int],
    settings_: list[tuple[float, float, float]],
    stop: float | None,
    pool: int = 0,
) -> dict[tuple[float, float, float], float]:
    """How often the interval holds the split's change: at every look, or at the one where a width of ``stop`` ends it. pool: of
    the samples that are stratified by margin, too."""
    rng, out = np.random.default_rng(0), {}
    within = Within.looks(total, len(looks))
    for setting in settings_:
        held = 0
        for run in range(runs):
            before, after = drawn(total, setting, run, pool, rng)
            truth = (after.float().mean() - before.float().mean()).item()
            good = True
            for n in looks:
                low, high = newcombe(before[:n], after[:n], within)
                good = low - 1e-9 <= truth <= high + 1e-9
                if not good or (stop is not None and high - low <= 2 * stop):
                    break
            held += good
        out[setting] = held / runs
    return out


SETTINGS = [(0.9, 0.01, 0.02), (0.9, 0.1, 0.05), (0.88, 0.0005, 0.001), (0.9, 0.9, 0.01), (0.5, 0.02, 0.02)]


@pytest.mark.parametrize("pool", [600, 3000])
def test_two_looks_cover(pool: int) -> None:
    found = covered(80, 3000, [64, 256], SETTINGS, None, pool)
    assert min(found.values()) >= 0.94, found


@pytest.mark.slow
@pytest.mark.parametrize("stop", [None, 0.005])
@pytest.mark.parametrize("looks", [[32, 128], [64, 256]])
@pytest.mark.parametrize("pool", [0, 2000])
def test_looks_and_stopping_cover(looks: list[int], stop: float | None, pool: int) -> None:
    found = covered(600, 10_000, looks, SETTINGS, stop, pool)
    assert min(found.values()) >= 0.94, found


def stopped(
    design: Design,
    answers: Callable[[int], tuple[Table, Table]],
    total: int,
    tolerance: float,
    again: bool = True,
    errors: tuple[float, ...] = stopping.ERRORS,
) -> tuple[int, tuple[float, float] | None]:
    """(samples, interval) at which an adaptive scan ends a point; no interval where everything was seen. again: far looks are planned anew."""
    looks = stopping.Looks(errors)
    while looks.goal < total:
        n = looks.goal
        tables = answers(n)
        if looks.settled(n, total, tolerance, partial(design.within, *tables), partial(design.widths, *tables), again):
            return n, design.within(*tables, stopping.quantile(looks.taken - 1, errors))
    return total, None


def of(right: torch.Tensor) -> Table:
    """Columns of answers that are right or not."""
    return Table({"prediction": right.long(), "target": torch.ones(len(right), dtype=torch.long)})


def adaptive(
    runs: int, total: int, tolerance: float, pool: int, again: bool = True
) -> dict[tuple[float, float, float], tuple[float, float]]:
    """(how often the interval at which an adaptive scan of fair samples stops holds the split's change, mean fraction of samples)."""
    rng, out = np.random.default_rng(1), {}
    for setting in SETTINGS:
        held = seen = 0
        for run in range(runs):
            before, after = drawn(total, setting, run, pool, rng)
            truth = (after.float().mean() - before.float().mean()).item()

            def answers(n: int, before: torch.Tensor = before, after: torch.Tensor = after) -> tuple[Table, Table]:
                return of(before[:n]), of(after[:n])

            n, found = stopped(Proportional(Classification(), "validation", total), answers, total, tolerance, again)
            held += found is None or found[0] - 1e-9 <= truth <= found[1] + 1e-9
            seen += n
        out[setting] = held / runs, seen / runs / total
    return out


def test_an_adaptive_scans_looks_cover() -> None:
    found = adaptive(40, 6000, 0.02, 1000)
    assert np.mean([held for held, _ in found.values()]) >= 0.94 and min(n for _, n in found.values()) < 0.2, found


@pytest.mark.slow
@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("pool", [0, 2000, 10_000])
def test_an_adaptive_scans_looks_cover_often(pool: int, again: bool) -> None:
    found = adaptive(700, 10_000, 0.005, pool, again)
    assert min(held for held, _ in found.values()) >= 0.94, found


def test_the_next_look_is_as_large_as_it_has_to_be() -> None:
    def expected(width: float, total: int = 10_000) -> stopping.Widths:
        return lambda sizes, z: z * width * (768 / sizes * (total - sizes) / (total - 768)) ** 0.5

    z = stopping.quantile(1)
    assert (
        stopping.next_look(expected(0.019 / z), 1, 768, 10_000, 0.01) == 896
    )  # narrow enough already, but for the slack
    assert stopping.next_look(expected(0.04 / z, 10**7), 1, 768, 10**7, 0.01) == pytest.approx(
        4 * stopping.SLACK * 768, abs=stopping.STEP
    )
    assert stopping.next_look(expected(0.5 / z), 1, 768, 10_000, 0.005) == 10_000
    assert stopping.next_look(expected(0.01), len(stopping.ERRORS), 768, 10_000, 0.01) == 10_000  # no look is left
    assert stopping.next_look(expected(0.04), 1, 768, 800, 0.01) == 800
    sizes = [stopping.next_look(expected(w / z), 1, 768, 10_000, 0.005) for w in np.linspace(0.01, 0.08, 30)]
    assert sizes == sorted(sizes) and all(n % stopping.STEP == 0 or n == 10_000 for n in sizes)
    assert sum(stopping.ERRORS) < 0.05 and sum(stopping.IN_STRATA) < 0.05


def test_a_far_look_is_planned_anew_on_the_way_which_decides_nothing() -> None:
    asked: list[float] = []

    def within(z: float) -> tuple[float, float]:
        asked.append(z)
        return -1.0, 1.0

    def widths(width: float) -> Callable[[], stopping.Widths]:
        return lambda: lambda sizes, z: z * width * sizes**-0.5

    looks = stopping.Looks()
    assert not looks.settled(512, 10_000, 0.01, within, widths(0.6)) and looks.taken == 1
    half = looks.goal
    enough = [(stopping.quantile(1) * width / 0.02) ** 2 * stopping.SLACK for width in (0.6, 0.5)]
    assert half == pytest.approx(stopping.WAY * enough[0], abs=stopping.STEP) and half % stopping.STEP == 0
    assert not looks.settled(half, 10_000, 0.01, within, widths(0.5))  # less than it seemed
    assert (
        looks.taken == 1
        and asked == [stopping.quantile(0)]
        and looks.goal == pytest.approx(enough[1], abs=stopping.STEP)
    )
    assert (
        not looks.settled(looks.goal, 10_000, 0.01, within, widths(0.5)) and looks.taken == 2
    )  # a look, and the next is one
    assert not looks.settled(looks.goal, 10_000, 0.01, within, widths(0.5)) and looks.goal == 10_000 and len(asked) == 3
    near = stopping.Looks()
    assert (
        not near.settled(512, 10_000, 0.01, within, widths(0.2)) and near.goal <= stopping.FAR and not near.on_the_way
    )
    assert near.settled(near.goal, 10_000, 0.01, lambda z: (0.0, 0.02), widths(0.2))
    apart = stopping.Looks()  # where each goal costs a chunk of its own
    assert (
        not apart.settled(512, 10_000, 0.01, within, widths(0.6), again=False)
        and apart.goal > stopping.FAR
        and not apart.on_the_way
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 300), st.integers(0, 300), st.integers(1, 400))
def test_an_interval_shrinks_to_the_value_as_all_is_seen(n: int, hits: int, more: int) -> None:
    hits, total = min(hits, n), n + more
    low, high = wilson(hits, n, Within(total))
    outer = wilson(hits, n)
    assert outer[0] - 1e-12 <= low <= hits / n + 1e-12 and hits / n - 1e-12 <= high <= outer[1] + 1e-12
    assert wilson(hits, n, Within(n)) == (hits / n, hits / n)
    wider = wilson(hits, n, Within.looks(total, 5))
    assert wider[0] <= low + 1e-12 and high - 1e-12 <= wider[1]


def test_more_looks_are_wider_and_one_is_the_usual_quantile() -> None:
    assert Within.looks(100, 1).z == pytest.approx(intervals.Z) and Within.looks(100, 3).z == pytest.approx(
        2.3940, abs=1e-4
    )
    values = torch.randn(50)
    one, three = intervals.mean(values, Within.looks(100, 1)), intervals.mean(values, Within.looks(100, 3))
    assert three[0] < one[0] < one[1] < three[1]
    half = one[1] - values.double().mean().item()
    assert half == pytest.approx(1.959964 * values.double().std().item() / 50**0.5 * (50 / 99) ** 0.5)
    assert intervals.mean(values, Within(50)) == pytest.approx((values.mean().item(),) * 2)
