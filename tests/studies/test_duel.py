"""Criteria against each other: the same layers, the same samples, as it goes."""

from __future__ import annotations

import pytest

import explorer
from explorer.core.errors import Cancelled, RecipeError, UnsupportedError
from explorer.core.recipe import Recipe
from explorer.studies.duel import contestants, duel, frame
from tests.contract.nets import few


def test_points_are_what_evaluate_measures(device: str) -> None:
    one = few("fashion-mlp", device=device)
    told: list[tuple[int, int]] = []
    points = list(
        duel(
            one,
            ("random", "l1", "snip"),
            sparsities=(0.0, 0.5, 0.9),
            samples=32,
            device=device,
            progress=lambda d, t: told.append((d, t)),
        )
    )
    assert [(p.sparsity, p.criterion) for p in points] == [
        (s, c) for s in (0.0, 0.5, 0.9) for c in ("random", "l1", "snip")
    ]
    assert told[-1] == (12, 12) and [d for d, _ in told] == list(range(1, 13))
    recipe = Recipe().prune([layer.name for layer in one.layers], sparsity=0.9, criterion="snip")
    report = explorer.evaluate(one, recipe, samples=32, device=device)
    figure = report.figure("accuracy")
    last = points[-1]
    assert (last.value, last.low, last.high, last.n, last.metric, last.split) == (
        figure.value,
        figure.low,
        figure.high,
        32,
        "accuracy",
        "validation",
    )
    assert len({p.value for p in points[:3]}) == 1
    table = frame(points)
    assert (
        list(table.columns) == ["criterion", "sparsity", "metric", "value", "low", "high", "n", "split"]
        and len(table) == 9
    )


def test_only_what_all_can_score_is_pruned(device: str) -> None:
    one = few("fashion-vit", device=device)
    assert contestants(one, ["l1", "wanda"], "weight") == (
        [layer.name for layer in one.layers if layer.name != "position"],
        {},
    )
    places, out = contestants(one, ["l1", "fpgm"], "weight")
    assert len(places) == len(one.layers) and "scores units" in out["fpgm"]
    with pytest.raises(UnsupportedError, match="bn-scale: the units of patches pass no BatchNorm"):
        next(duel(one, ("l1", "bn-scale"), granularity="unit", device=device))
    with pytest.raises(RecipeError, match="granularity='row'"):
        next(duel(one, granularity="row", device=device))


def test_units_and_cancelling(device: str) -> None:
    one = few("vowels-rnn", device=device)
    seen = []
    for point in duel(
        one,
        ("l2", "loss-change"),
        granularity="unit",
        sparsities=(0.5, 0.9),
        device=device,
        cancel=lambda: len(seen) > 2,
    ):
        seen.append(point)
        if len(seen) == 3:
            break
    assert [p.criterion for p in seen] == ["l2", "loss-change", "l2"]
    with pytest.raises(Cancelled, match="cancelled after"):
        list(duel(one, ("l1",), device=device, cancel=lambda: True))


def test_a_look_at_some_samples(device: str) -> None:
    one = few("fashion-mlp", device=device)
    report = explorer.evaluate(one, samples=32, device=device)
    assert report.n == 32 and report.total == 48 and not report.complete
    assert explorer.evaluate(one, samples=9999, device=device).n == 48
    with pytest.raises(RecipeError, match="samples=0; accepted"):
        explorer.evaluate(one, samples=0, device=device)
