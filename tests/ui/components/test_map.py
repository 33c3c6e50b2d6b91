"""The map of sparsity and bits: it fills in place, and any known cell can be picked by mouse or keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
Mount = Callable[..., None]


def cell(row: int, column: int, value: str = "80.0", **more: Any) -> dict[str, Any]:
    found = {
        "row": row,
        "column": column,
        "value": value,
        "size": "1 kB",
        "title": f"row {row}\ncolumn {column}",
        "shade": 0.5,
        "best": False,
        "complete": True,
    }
    return found | more


def drawn(*cells: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = {"label": "Map", "corner": "bits", "frontier": "frontier"}
    return {
        "id": "1",
        "rows": ["2", "4", "fp32"],
        "columns": ["0 %", "50 %"],
        "cells": list(cells),
        "chosen": None,
        "text": text,
    } | more


def events(page: Page) -> list[Any]:
    return page.evaluate("host.events.map((e) => e.slice(0, 2))")


def test_most_bits_stand_on_top_and_cells_fill_in_place(plain: Page, mount: Mount) -> None:
    mount("map", drawn(cell(2, 0, "91.0", complete=False)))
    assert plain.get_by_role("rowheader").all_inner_texts() == ["fp32", "4", "2"]
    assert plain.locator(".cell.empty").count() == 5 and plain.locator('[data-at="2/0"]').inner_text().startswith(
        "~91.0"
    )
    plain.evaluate("window.first = host.place.querySelector('[data-at=\"2/0\"]')")
    plain.evaluate("(data) => host.render(data)", drawn(cell(2, 0, "90.5", best=True), cell(0, 1)))
    assert plain.evaluate(
        "first === host.place.querySelector('[data-at=\"2/0\"]')"
    )  # not made anew, so nothing flickers
    assert plain.locator('[data-at="2/0"]').inner_text().startswith("90.5") and plain.locator(".cell.best").count() == 1
    assert plain.locator(".cell.empty").count() == 4
    plain.evaluate("(data) => host.render(data)", drawn(cell(0, 0), id="2"))
    assert plain.locator(".cell.empty").count() == 5  # another map


def test_a_known_cell_is_picked_also_while_others_fill(plain: Page, mount: Mount) -> None:
    mount("map", drawn(cell(0, 0), cell(2, 1)))
    plain.locator('[data-at="1/0"]').click()
    assert events(plain) == []  # not known yet
    plain.locator('[data-at="2/1"]').click()
    assert (
        events(plain) == [["pick", [2, 1]]]
        and plain.locator('[data-at="2/1"]').get_attribute("aria-selected") == "true"
    )
    plain.evaluate("(data) => host.render(data)", drawn(cell(0, 0), cell(2, 1), cell(1, 0), chosen=[2, 1]))
    assert plain.locator('[aria-selected="true"]').count() == 1
    plain.locator('[data-at="1/0"]').click()
    assert events(plain)[-1] == ["pick", [1, 0]]


def test_keys_move_over_known_cells(plain: Page, mount: Mount) -> None:
    mount("map", drawn(cell(0, 0), cell(2, 0), cell(2, 1)))
    assert [one.get_attribute("tabindex") for one in plain.get_by_role("gridcell").all()].count("0") == 1
    plain.locator('[tabindex="0"]').focus()
    for key in (
        "ArrowUp",
        "ArrowRight",
        "ArrowRight",
        "ArrowDown",
        "Enter",
    ):  # over the gap; not beyond the edge, nor into what is unknown
        plain.keyboard.press(key)
    assert events(plain) == [["pick", [2, 1]]]
