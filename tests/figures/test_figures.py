"""Figures are pure functions: what goes in is what is drawn."""

from __future__ import annotations

import numpy as np

from explorer.core.report import ClassScore
from explorer.figures.confusion import confusion
from explorer.figures.palette import DARK, LIGHT
from explorer.figures.per_class import per_class
from explorer.figures.weights import weights


def test_recall_by_class_is_red_where_it_fell_and_green_where_it_rose() -> None:
    scores = {
        "a": ClassScore("a", 10, 1.0, 0.5, 0.6, 1.0, 0.9, 0.9),
        "b": ClassScore("b", 20, 1.0, 0.8, 0.9, 1.0, 0.7, 0.8),
    }
    figure = per_class(scores, LIGHT)
    lines, before, after = figure.data[:2], figure.data[2], figure.data[3]
    assert [line.line.color for line in lines] == [LIGHT.worse, LIGHT.better]
    assert list(before.x) == [0.9, 0.7] and list(after.x) == [0.5, 0.8]
    assert list(after.customdata) == [10, 20]


def test_a_confusion_matrix_is_shaded_by_row() -> None:
    figure = confusion([[3, 1], [0, 4]], ["a", "b"], DARK)
    assert [list(row) for row in figure.data[0].z] == [[0.75, 0.25], [0.0, 1.0]]
    assert [list(row) for row in figure.data[0].customdata] == [[3, 1], [0, 4]]


def test_cut_weights_are_orange_and_gates_are_blocks() -> None:
    values = np.arange(16.0).reshape(8, 2) - 8
    cut = values == 0
    figure = weights(values, cut, LIGHT, gates=("i", "f", "g", "o"), reach=8.0)
    orange, blue = figure.data
    assert int(np.isfinite(orange.z).sum()) == 1 and int(np.isnan(blue.z).sum()) == 1
    assert blue.zmax == 8.0 and float(np.nanmax(blue.z)) == 8.0
    assert list(figure.layout.yaxis.ticktext) == ["i", "f", "g", "o"]
    assert [shape.y0 for shape in figure.layout.shapes] == [1.5, 3.5, 5.5]
