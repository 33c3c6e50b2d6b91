"""Sensitivity figures: a curve and a band a target, worse is down, and a click knows what it meant."""

from __future__ import annotations

import pandas as pd
import pytest

from explorer.evaluate.sweep import Sweep
from explorer.figures.palette import LIGHT
from explorer.figures.sensitivity import LONG, Words, multiples, overlay, shortened
from explorer.studies.curve_table import frame
from explorer.studies.ranking import curves, gains, ranking


def table(lower: bool = False, interval: bool = True) -> pd.DataFrame:
    """Two coupled layers in one group, and a group that is more robust."""
    rows = []
    for layer, group, drops in (
        ("a.weight", "g", (0.05, 0.4)),
        ("b.weight", "g", (0.05, 0.4)),
        ("c.weight", "h", (-0.01, 0.005)),
    ):
        for step, drop in zip((0.5, 0.9), drops, strict=True):
            change = drop if lower else -drop
            ends = (change - 0.008, change + 0.008) if interval else (None, None)
            rows.append((layer, step, 0.9 + change, 0.0, 1.0, 100, change, *ends, group, "unit", "channel", 0.4, None))
    return frame(rows, Sweep(granularities=("unit",)), "accuracy", lower)


@pytest.mark.parametrize("draw", [overlay, multiples])
def test_a_group_is_one_curve_with_its_band(draw) -> None:
    figure = draw(table(), LIGHT, marks={"g": 0.9})
    lines = [trace for trace in figure.data if trace.customdata is not None]
    assert [trace.name for trace in lines] == ["h", "g"]  # the most robust first
    assert [list(point) for point in lines[1].customdata] == [["g", 0.5, 100], ["g", 0.9, 100]]
    assert list(lines[1].y) == pytest.approx([-5, -40]) and list(lines[1].x) == pytest.approx([50, 90])
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == 2 and list(bands[1].y) == pytest.approx([-4.2, -39.2, -40.8, -5.8])
    rings = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(rings) == 1 and list(rings[0].x) == [90]
    assert lines[0].line.color != lines[1].line.color and {line.line.dash for line in lines} == {"dash"}
    if draw is multiples:  # what goes with the units is at most that, since groups overlap
        assert (
            figure.layout.annotations[1].text.startswith("<b>g</b> units<br>")
            and "≤ 40 % weights" in figure.layout.annotations[1].text
        )


def test_worse_is_down_and_without_an_interval_there_is_no_band() -> None:
    figure = overlay(table(lower=True, interval=False), LIGHT, Words(change="change of loss"))
    low, high = figure.layout.yaxis.range
    assert low > 0 > high and not [trace for trace in figure.data if trace.fill == "toself"]
    assert figure.layout.yaxis.title.text == "change of loss"


def test_the_ranking_and_what_got_better() -> None:
    found = ranking(table())
    assert list(found.target) == ["h", "g"] and list(found.loss) == pytest.approx([0.0025, 0.225])
    assert found.best[0] == 0.9 and found.best.isna()[1] and len(curves(table())) == 4
    assert gains(table()) == (1, 1) and gains(table(interval=False)) == (1, 0)


@pytest.mark.parametrize(
    "names",
    [[f"encoder.layers.{i}.attention.projection.weight" for i in range(12)], ["a" * 40 + str(i) for i in range(9)], ["short", "x" * LONG]],
)
def test_long_names_stay_apart(names: list[str]) -> None:
    found = shortened(names)
    assert len(set(found.values())) == len(names) and all(len(one) <= LONG for one in found.values())
    assert all(name.startswith(head) and name.endswith(tail) for name, one in found.items() for head, _, tail in [one.partition("…")] if len(name) > LONG)
    assert all(found[name] == name for name in names if len(name) <= LONG)
