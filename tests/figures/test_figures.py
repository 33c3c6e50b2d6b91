"""Figures are pure functions: what goes in is what is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from explorer.core.explanation import Roofline, RooflinePoint
from explorer.core.report import ClassScore, Figure
from explorer.core.training import Epoch, Step
from explorer.evaluate.sweep import Sweep
from explorer.figures.confusion import confusion
from explorer.figures.correlation import matrix, scatter
from explorer.figures.duel import duel
from explorer.figures.gates import over_time, shares
from explorer.figures.palette import DARK, LIGHT, plain, written
from explorer.figures.per_class import per_class
from explorer.figures.roofline import roofline
from explorer.figures.sensitivity import Words, multiples, overlay
from explorer.figures.training import training
from explorer.figures.weights import weights
from explorer.studies.curve_table import frame
from explorer.studies.duel import Point


def test_recall_by_class_is_red_where_it_fell_and_green_where_it_rose() -> None:
    scores = {
        "b": ClassScore("b", 20, 1.0, 0.8, 0.9, 1.0, 0.7, 0.8),
        "a": ClassScore("a", 10, 1.0, 0.5, 0.6, 1.0, 0.9, 0.9),
        "c": ClassScore("c", 10, 1.0, 0.4, 0.6, 1.0, 0.5, 0.9),
    }
    figure = per_class(scores, LIGHT)
    lines, before, after = figure.data[:2], figure.data[2], figure.data[3]
    assert [line.line.color for line in lines] == [LIGHT.worse, LIGHT.better]
    assert list(lines[0].y) == ["a", "a", None, "c", "c", None] and list(lines[0].x) == [0.9, 0.5, None, 0.5, 0.4, None]
    assert list(lines[1].y) == ["b", "b", None] and list(figure.layout.yaxis.categoryarray) == ["b", "a", "c"]
    assert list(before.x) == [0.7, 0.9, 0.5] and list(after.x) == [0.8, 0.5, 0.4]
    assert list(after.customdata) == [20, 10, 10]
    assert figure.layout.yaxis.type == "category"  # classes called 0, 1, 2 are no numbers


def test_a_confusion_matrix_is_shaded_by_row() -> None:
    figure = confusion([[3, 1], [0, 4]], ["a", "b"], DARK)
    assert [list(row) for row in figure.data[0].z] == [[0.75, 0.25], [0.0, 1.0]]
    assert [list(row) for row in figure.data[0].customdata] == [[3, 1], [0, 4]]
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "category"


def test_cut_weights_are_orange_and_gates_are_blocks() -> None:
    values = np.arange(16.0).reshape(8, 2) - 8
    cut = values == 0
    figure = weights(values, cut, LIGHT, gates=("i", "f", "g", "o"), reach=8.0)
    orange, blue = figure.data
    assert int(np.isfinite(orange.z).sum()) == 1 and int(np.isnan(blue.z).sum()) == 1
    assert blue.zmax == 8.0 and float(np.nanmax(blue.z)) == 8.0
    assert list(figure.layout.yaxis.ticktext) == ["i", "f", "g", "o"]
    assert [shape.y0 for shape in figure.layout.shapes] == [1.5, 3.5, 5.5]
    thinned = weights(values, cut, LIGHT, gates=("i", "f", "g", "o"), step=4)  # every fourth row and column of 32 x 8
    assert (thinned.data[1].dx, thinned.data[1].dy) == (4, 4) and [shape.y0 for shape in thinned.layout.shapes] == [6, 14, 22]


def test_a_roofline_bends_at_the_ridge_and_joins_what_moved() -> None:
    points = (
        RooflinePoint("a", "original", 8, 1000, 100, 1e-6),
        RooflinePoint("a", "compressed", 8, 500, 100, 1e-6),
        RooflinePoint("b", "original", 8, 1000, 100, None),
    )
    figure = roofline(Roofline(1e10, 1e9, points, 1, "here"), DARK)
    roof, before, after, moved = figure.data
    assert 10.0 in list(roof.x) and max(roof.y) == 10.0  # the ridge, and the peak in GFLOP/s
    assert list(roof.y) == pytest.approx([min(10.0, x) for x in roof.x])
    assert (list(before.x), list(before.y)) == ([10.0], [1.0]) and (list(after.x), list(after.y)) == ([5.0], [0.5])
    assert list(moved.x) == [10.0, 5.0] and figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_correlations_are_shown_with_their_numbers_and_gaps() -> None:
    figure = matrix(np.array([[1.0, np.nan], [np.nan, 1.0]]), ["a", "b"], LIGHT)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)
    told = figure.data[1]
    assert list(zip(told.x, told.y, told.text, strict=True)) == [("a", "a", "1.00"), ("b", "b", "1.00")]
    assert tuple(figure.layout.yaxis.range) == (1.5, -0.5) and list(told.textfont.color) == ["#ffffff"] * 2


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_numbers_can_be_read_on_every_colour(palette) -> None:  # type: ignore[no-untyped-def]
    def light(colour: tuple[float, ...]) -> float:
        return sum(k * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for k, c in zip((0.2126, 0.7152, 0.0722), colour, strict=True))

    for end in (palette.kept, palette.cut):
        for share in np.linspace(0, 1, 21):
            ends = [[int(one[i : i + 2], 16) / 255 for i in (1, 3, 5)] for one in (palette.panel, end)]
            ground = light(tuple(a + share * (b - a) for a, b in zip(*ends, strict=True)))
            ink = 1.0 if written((palette.panel, end), share) == "#ffffff" else 0.0
            assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) > 4.5


def test_what_only_one_of_two_criteria_would_cut_is_orange() -> None:
    x, y = np.array([0.1, 0.4, 0.9, 0.6]), np.array([0.2, 0.8, 0.7, 0.1])
    figure = scatter(x, y, LIGHT, ("first", "second"), 0.5, [7, 8, 9, 10], {"unit": "channel"})
    same, torn = figure.data
    assert list(same.x) == [0.1, 0.9] and list(torn.x) == [0.4, 0.6] and torn.marker.color == LIGHT.cut
    assert list(torn.customdata) == ["channel 8<br>", "channel 10<br>"] and figure.layout.xaxis.title.text == "first"


def test_a_duel_is_a_line_a_criterion_with_its_intervals() -> None:
    points = [
        Point(name, s, "accuracy", 0.9 - s * k, 0.8 - s * k, None if k == 3 else 0.95 - s * k, 100, "validation")
        for s in (0.5, 0.0)
        for name, k in (("random", 1), ("l1", 0.5), ("loss-change", 3))
    ]
    figure = duel(
        points, LIGHT, {"random": "chance", "l1": "|w|", "loss-change": "exact", "snip": "not run"}, "Accuracy"
    )
    chance, size, exact = figure.data
    assert [trace.name for trace in figure.data] == ["chance", "|w|", "exact"]
    assert list(chance.x) == [0.0, 0.5] and list(chance.y) == [0.9, 0.4]
    assert (chance.line.dash, size.line.dash, exact.line.dash) == (
        "dot",
        "solid",
        "dot",
    ) and chance.line.color == LIGHT.faint
    assert (
        np.allclose(size.error_y.array, 0.05)
        and np.allclose(size.error_y.arrayminus, 0.1)
        and exact.error_y.array is None
    )


def test_gates_have_a_bar_a_tensor_and_a_line_each() -> None:
    rows = [
        (layer, gate, share, share / 10)
        for layer, part in (("ih", (0.5, 0.3, 0.2)), ("hh", (0.2, 0.2, 0.6)))
        for gate, share in zip(("reset", "update", "new"), part, strict=True)
    ]
    figure = shares(pd.DataFrame(rows, columns=["layer", "gate", "share", "mean"]), DARK, {"reset": "Reset"})
    assert [bar.name for bar in figure.data] == ["ih", "hh"] and list(figure.data[1].x) == [0.2, 0.2, 0.6]
    assert list(figure.data[0].y) == ["Reset", "update", "new"]
    steps = [("hh", gate, step, 0.1 * step) for step in range(3) for gate in ("reset", "new")]
    figure = over_time(pd.DataFrame(steps, columns=["layer", "gate", "step", "relevance"]), LIGHT, {})
    assert [line.name for line in figure.data] == ["reset", "new"] and list(figure.data[0].x) == [1, 2, 3]


def relative_luminance(colour: str) -> float:
    """Of #rrggbb (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_trainings_course_has_its_band_its_best_and_its_end() -> None:
    def epoch(at: int, value: float, best: bool, half: float | None) -> Epoch:
        edges = (None, None) if half is None else (value - half, value + half)
        seen = Figure(value, "measured", "validation", 100, *edges)
        return Epoch(at, 3, 10 * at, None if at == 0 else 1.0 / at, {"accuracy": seen}, "accuracy", 0.5, 1e-3, 1.0, 1.0, best=best)

    curve = [epoch(0, 0.4, True, 0.05), epoch(1, 0.8, True, 0.04), epoch(2, 0.7, False, 0.04)]
    steps = [Step(1, 5, 30, 2.0, 1e-3, 0.5, 1.0, 1.0)]
    figure = training(curve, steps, LIGHT, ("Accuracy", "Loss", "Sparsity", "Learning rate"), 0.9, True, 30)
    assert figure.layout.yaxis2.tickformat == ".5~g"  # of a loss that explodes, all digits or powers of ten would reach into the panel beside it
    high, low, course = figure.data[:3]
    assert high.y == pytest.approx((0.45, 0.84, 0.74)) and low.y == pytest.approx((0.35, 0.76, 0.66)) and low.fill == "tonexty"
    assert course.y == (0.4, 0.8, 0.7) and course.marker.color == (LIGHT.better, LIGHT.better, LIGHT.kept)
    assert figure.layout.shapes[0].y0 == 0.9 and figure.layout.xaxis.range[1] > 30  # what is still to come is left free
    def contrast(one: str, page: str) -> float:
        dark, light = sorted(relative_luminance(colour) for colour in (one, page))
        return (light + 0.05) / (dark + 0.05)

    for palette, page in ((LIGHT, "#ffffff"), (DARK, "#10131a")):  # WCAG 2.1, 1.4.11: of what one has to see in order to understand
        losses = [trace for trace in training(curve, steps, palette, ("", "Loss", "", ""), 0.9, True, 30).data if trace.xaxis == "x2"]
        assert len(losses) == 2 and all(contrast(one.line.color, page) >= 3 and one.opacity in (None, 1) for one in losses)
    late = training(curve, [Step(2, 15, 30, 2.0, 5e-4, 0.9, 1.0, 1.0)], LIGHT, ("", "", "", ""))  # it went on from a checkpoint
    assert [(one.x, one.y) for one in late.data if one.xaxis == "x3"] == [((0, 10, 15), (0.5, 0.5, 0.9))]
    assert late.layout.xaxis.range == late.layout.xaxis2.range == pytest.approx((-0.4, 20.4))
    bare = training([epoch(0, 0.4, True, None)], [], DARK, ("", "", "", ""))
    assert "tonexty" not in {trace.fill for trace in bare.data} and not bare.layout.shapes
    assert not bare.layout.yaxis2.showticklabels and figure.layout.yaxis2.showticklabels is not False  # no loss, no numbers on its axis


EVIL = "<b>a</b> &lt;&amp; %{x}"  # a tensor of a stranger's file may be called so


def drawn(figure: go.Figure) -> str:
    """All texts that Plotly would read tags, entities and templates in."""
    told = figure.to_plotly_json()
    for trace in told["data"]:
        trace.pop("customdata", None)
    return str(told).replace("\\u2060", "\u2060")


def test_names_are_drawn_as_they_are() -> None:
    rows = [(EVIL, s, 0.9 - s / 9, 0.0, 1.0, 100, -s / 9, -0.2, 0.1, "", "weight", "linear", 0.4, None) for s in (0.5, 0.9)]
    table = frame(rows, Sweep(), "accuracy", False)
    gates = pd.DataFrame([(EVIL, "input", 1.0, 0.1)], columns=["layer", "gate", "share", "mean"])
    point = Point("l1", 0.5, "accuracy", 0.9, 0.8, 0.95, 100, "validation")
    roof = Roofline(1e10, 1e9, (RooflinePoint(EVIL, "original", 8, 1000, 100, 1e-6),), 1, "here")
    words = Words(change=EVIL)
    for figure in (
        overlay(table, LIGHT, words), multiples(table, LIGHT, words), duel([point], LIGHT, {"l1": EVIL}, EVIL), shares(gates, LIGHT, {}), roofline(roof, LIGHT),
        matrix(np.eye(1), [EVIL], LIGHT), scatter(np.ones(2), np.ones(2), LIGHT, (EVIL, EVIL)), training([], [], LIGHT, (EVIL, "", "", "")),
    ):  # fmt: skip
        text = drawn(figure)
        assert plain(EVIL) in text and EVIL not in text and "<b>a</b>" not in text
    assert plain(EVIL) == "&lt;b&gt;a&lt;/b&gt; &amp;lt;&amp;amp; %\u2060{x}"
    assert next(list(one.customdata[0]) for one in overlay(table).data if one.customdata is not None)[0] == EVIL  # what a click says
