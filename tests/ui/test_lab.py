"""The map of sparsity and bits, and why a model is as large and fast as it is, in a real browser."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import explorer
from explorer.core.recipe import Recipe
from explorer.ui import format as fmt

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import SLOW, App  # noqa: E402

RNN, MLP = "vowels-rnn", "bikes-mlp"  # the smallest ones
LONG = 3 * SLOW


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def test_the_map_fills_while_the_page_is_used_and_a_cell_is_a_recipe(app: App) -> None:
    app.open(MLP, layer="fc2.weight", recipe=Recipe().prune("fc1.weight", sparsity=0.5))
    panel = app.tab("Sparsity × bits")
    panel.get_by_role("button", name="Fill the map").click()
    expect(panel).to_contain_text("Click a cell to take its recipe", timeout=LONG)
    chart = panel.get_by_test_id("stPlotlyChart")
    expect(chart).to_be_visible()
    panel.get_by_text("Click a cell").scroll_into_view_if_needed()
    app.page.mouse.wheel(0, 800)
    app.page.wait_for_timeout(700)  # a scroll glides
    box = chart.locator(".nsewdrag").bounding_box()
    assert box is not None
    app.page.mouse.click(
        box["x"] + box["width"] * 2.5 / 7, box["y"] + box["height"] * 4.5 / 7
    )  # column 50 %, row 4 bits
    use = panel.get_by_role("button", name="Use this recipe")
    expect(use).to_be_visible(timeout=SLOW)
    wanted = Recipe().prune("fc1.weight", sparsity=0.5).prune("fc2.weight", sparsity=0.5)
    wanted = wanted.quantize("fc2.weight", bits=4, granularity="channel")
    report = explorer.evaluate(explorer.load(MLP), wanted)
    expect(panel).to_contain_text(fmt.metric("r2", report.metrics["r2"]))
    expect(panel).to_contain_text(fmt.size(report.bytes))
    use.click()
    app.shows(MLP, wanted)
    app.healthy()


def test_sizes_on_screen_are_those_of_the_exported_files(app: App, tmp_path: Path) -> None:
    recipe = Recipe().prune("*", sparsity=0.5).quantize("rnn", bits=5)
    app.open(RNN, recipe=recipe)
    panel = app.tab("Why this size and speed")
    panel.get_by_role("button", name="Measure").click()
    expect(panel).to_contain_text("What may surprise", timeout=LONG)
    formats = ("safetensors", "onnx", "onnx-int8", "onnx-int4", "packed")
    bundle = explorer.export(explorer.load(RNN), recipe, tmp_path / "out", formats=formats)
    told = panel.get_by_test_id("stDataFrame").first.text_content() or ""
    for name in ("model.safetensors", "model.onnx", "model.int8.onnx", "model.int4.onnx", "model.packed"):
        assert f"{bundle.files[name]:,}" in told, (name, told[:400])
    packed = len(gzip.compress((bundle.folder / "model.packed").read_bytes(), 9, mtime=0))
    assert f"{packed:,}" in told
    counted = explorer.evaluate(explorer.load(RNN), recipe).bytes
    expect(panel).to_contain_text(f"{counted:,} B")
    expect(panel).to_contain_text("the rest is the graph")
    expect(panel).to_contain_text("estimated")
    panel.get_by_role("button", name="How it is estimated").click()
    expect(app.page.get_by_text("Horowitz, ISSCC 2014").first).to_be_visible(timeout=SLOW)
    app.healthy()
