from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from explorer.core.errors import ExplorerError
from explorer.core.recipe import Recipe
from explorer.core.report import Counts, Figure, LayerCount, Report


def layer(name: str, original: int, remaining: int, nonzero: int) -> LayerCount:
    return LayerCount(name, "linear", (remaining, 1), original, remaining, nonzero, 0, 32, 4 * remaining)


def report(**lazy: Any) -> Report:
    figures = {"accuracy": Figure(0.5, "measured", "validation", 10, 0.4, 0.6), "loss": Figure(1.0, "measured")}
    return Report("mine", Recipe(), "p", "classification", "validation", 10, 20, "fp32", "cpu", figures, {}, lazy=lazy)


def test_sparsity_counts_removed_entries_as_pruned() -> None:
    counts = Counts(
        {"a": layer("a", 100, 50, 25), "b": layer("b", 100, 100, 100)}, 150, 125, {"dense": 600}, 600, None, None
    )
    assert counts.sparsity == 1 - 125 / 200 and counts.zeros_left == 1 - 125 / 150
    assert counts.layers["a"].sparsity == 0.75 and counts.layers["a"].zeros_left == 0.5
    empty = Counts({}, 0, 0, {}, 0, None, None)
    assert empty.sparsity == 0 and empty.zeros_left == 0


def test_metrics_are_read_only_and_the_first_is_the_main_one() -> None:
    found = report()
    assert dict(found.metrics) == {"accuracy": 0.5, "loss": 1.0} and found.main == "accuracy" and not found.complete
    with pytest.raises(TypeError):
        found.metrics["accuracy"] = 1.0  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.n = 3  # type: ignore[misc]


def test_what_is_costly_is_computed_once_and_only_when_read() -> None:
    calls: list[str] = []
    found = report(changed=lambda: calls.append("changed") or [], per_class=lambda: calls.append("class") or {})
    assert not calls
    assert found.changed == found.changed == () and found.per_class == {}
    assert calls == ["changed", "class"]


def test_unknown_figures() -> None:
    with pytest.raises(ExplorerError, match="did you mean accuracy"):
        report().figure("acuracy")
    with pytest.raises(ExplorerError, match="no change"):
        report().change("accuracy")


def test_a_figure_that_does_not_exist_is_null_in_json() -> None:
    counts = Counts({}, 0, 0, {}, 0, None, None, "no shapes")
    found = dataclasses.replace(
        report(counts=lambda: counts, per_class=dict, changed=list),
        figures={
            "r2": Figure(math.nan, "measured", "validation", 1),
            "perplexity": Figure(math.inf, "measured", "validation", 1),
        },
    )
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["metrics"]["r2"]["value"] is None and plain["metrics"]["perplexity"]["value"] is None
