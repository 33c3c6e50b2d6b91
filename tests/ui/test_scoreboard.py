"""What the cards claim: a change within the noise is neither better nor worse, and few samples name no class."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import explorer
from explorer.core.report import Figure
from explorer.ui.panels import scoreboard


def board(low: float, high: float, name: str = "accuracy", **more: Any) -> Any:
    """A report of one metric that moved by the middle of an interval."""
    moved = Figure((low + high) / 2, "measured", "validation", 32, low, high)
    return SimpleNamespace(
        figure=lambda _: Figure(0.9, "measured", "validation", 32), change=lambda _: moved, lower_is_better={"loss"}, complete=False, n=32,
        total=1000, split="validation", main=name, recipe=explorer.Recipe().prune("*", sparsity=0.5), **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "low", "high", "css"),
    [
        ("accuracy", -0.09, 0.21, ""), ("accuracy", 0.01, 0.21, "x-better"), ("accuracy", -0.21, -0.01, "x-worse"), ("loss", -0.2, -0.1, "x-better"),
        ("loss", 0.1, 0.2, "x-worse"), ("loss", -0.1, 0.2, ""),
    ],
)  # fmt: skip
def test_only_a_change_beyond_the_noise_is_coloured(name: str, low: float, high: float, css: str) -> None:
    card = scoreboard._metric(board(low, high, name), name)
    assert card.note[0][0] == css


@pytest.mark.parametrize(("support", "complete", "named"), [(3, False, False), (50, False, True), (3, True, True)])
def test_a_class_is_named_as_hurt_once_enough_of_it_was_seen(support: int, complete: bool, named: bool) -> None:
    one = SimpleNamespace(recall=0.4, recall_before=0.9, support=support)
    report: Any = SimpleNamespace(per_class={"Shirt": one}, complete=complete)
    assert bool(scoreboard.hurt(report)) == named


def test_a_change_that_is_shown_as_nothing_has_no_colour() -> None:
    assert scoreboard.moved("r2", Figure(-0.0004, "measured"), False) == ("", "±0.000")
    assert scoreboard.moved("r2", Figure(-0.004, "measured"), False) == ("x-worse", "−0.004")
