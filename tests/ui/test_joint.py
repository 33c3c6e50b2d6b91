"""What the map of sparsity and bits is told."""

from __future__ import annotations

import pytest

from explorer.core.joint import Cell
from explorer.core.recipe import Recipe
from explorer.ui.panels.joint import _progress, data


def cell(row: int, column: int, value: float, size: int, n: int = 10, metric: str = "accuracy") -> Cell:
    return Cell(row, column, (0.0, 0.3)[column], (2, 3)[row], metric, value, None, None, -0.1, n, 10, size, Recipe())


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.ui.i18n.language", lambda: "en")


def test_values_bytes_and_the_frontier() -> None:
    known = {(0, 0): cell(0, 0, 0.8, 500), (0, 1): cell(0, 1, 0.7, 600), (1, 0): cell(1, 0, 0.9, 4000, n=4)}
    shown = data(known, known[0, 0], "7", False)
    first, second, third = shown["cells"]
    assert (first["value"], first["size"], first["complete"], first["best"]) == ("80.0", "500 B", True, True)
    assert (
        not second["best"]
        and second["shade"] == 0.0
        and third["best"]
        and third["shade"] == 1.0
        and not third["complete"]
    )
    assert "n = 4" in third["title"] and "4,000 B" in third["title"] and "−10.0 pt" in third["title"]
    assert shown["rows"] == ["2", "3", "4", "5", "6", "8", "fp32"] and shown["columns"][:2] == ["0 %", "30 %"]
    assert shown["chosen"] == [0, 0] and shown["id"] == "7"


def test_lower_may_be_better_and_values_may_be_missing() -> None:
    known = {
        (0, 0): cell(0, 0, 3.5, 500, metric="perplexity"),
        (1, 0): cell(1, 0, float("nan"), 90, metric="perplexity"),
    }
    known[0, 1] = cell(0, 1, 4.5, 600, metric="perplexity")
    low, high, missing = (
        next(one for one in data(known, None, "", True)["cells"] if (one["row"], one["column"]) == at)
        for at in ((0, 0), (0, 1), (1, 0))
    )
    assert (low["shade"], high["shade"]) == (1.0, 0.0) and low["best"] and not high["best"]
    assert not missing["best"] and missing["value"] == "–"
    assert data({}, None, "", False)["cells"] == []


def test_what_is_left_to_do_is_said_once_all_cells_are_known() -> None:
    some = {(0, 0): cell(0, 0, 0.8, 500), (0, 1): cell(0, 1, 0.7, 600, n=4)}
    assert _progress(some, 3) == "2 of 3 cells known"
    assert _progress(some, 2) == "1 of 2 cells seen over all samples"
