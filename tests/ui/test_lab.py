"""The map of sparsity and bits, and why a model is as large and fast as it is, in a real browser."""

from __future__ import annotations

import gzip
import re
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

from tests.ui.driver import MLP as IMAGES  # noqa: E402
from tests.ui.driver import SLOW, App  # noqa: E402

RNN, MLP = "vowels-rnn", "bikes-mlp"  # the smallest ones
LONG = 3 * SLOW


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def test_a_cell_is_taken_while_the_map_fills_and_the_handle_answers(app: App) -> None:
    app.open(IMAGES, layer="fc1.weight")
    panel = app.tab("Sparsity × bits")
    fill, cancel, use = (
        panel.get_by_role("button", name=name) for name in ("Fill the map", "Cancel", "Use this recipe")
    )
    panel.get_by_role("radio", name="all layers").click()
    fill.click()
    cell = panel.locator('[data-at="6/6"]')  # 95 %, weights as they are: a corner, so among the first
    cell.locator("b:not(:empty)").wait_for(timeout=LONG)
    cell.click()
    expect(use).to_be_visible(timeout=SLOW)
    assert panel.locator(".cell.part, .cell.empty").count() > 0  # it still fills
    with app.step():
        use.click()
    app.shows(IMAGES, Recipe().prune(["fc1.weight", "fc2.weight", "fc3.weight"], sparsity=0.95, scope="global"))
    app.drag(-60)
    assert app.shows(IMAGES).counts.layers["fc1.weight"].sparsity < 0.9
    expect(fill).to_be_enabled(timeout=LONG)
    panel.get_by_role("radio", name="fc1.weight").click()  # another map, none of which is known
    fill.click()
    cancel.click(timeout=SLOW)
    expect(panel).to_contain_text("Cancelled:", timeout=SLOW)
    app.healthy()


@pytest.mark.slow
def test_the_filled_map_says_what_the_package_computes(app: App) -> None:
    app.open(MLP, layer="fc2.weight", recipe=Recipe().prune("fc1.weight", sparsity=0.5))
    panel = app.tab("Sparsity × bits")
    panel.get_by_role("button", name="Fill the map").click()
    expect(panel.locator(".cell:not(.empty):not(.part)")).to_have_count(49, timeout=LONG)
    expect(panel.get_by_role("button", name="Cancel")).to_be_disabled(timeout=SLOW)
    panel.locator('[data-at="2/2"]').click()  # 4 bits, 50 %
    wanted = Recipe().prune("fc1.weight", sparsity=0.5).prune("fc2.weight", sparsity=0.5)
    wanted = wanted.quantize("fc2.weight", bits=4, granularity="channel")
    report = explorer.evaluate(explorer.load(MLP), wanted)
    expect(panel).to_contain_text(f"{fmt.metric('r2', report.metrics['r2'])} (", timeout=SLOW)
    expect(panel).to_contain_text(f"{report.bytes:,} B")
    panel.get_by_role("button", name="Use this recipe").click()
    app.shows(MLP, wanted)
    app.healthy()


def test_from_8_bits_to_2_levels_error_and_accuracy_move(app: App) -> None:
    app.open(MLP, layer="fc1.weight", recipe=Recipe().quantize("fc1.weight", bits=8))
    seen = []
    for bits in (8, 4, 2):
        if bits < 8:
            with app.step():
                app.choose("Bits", str(bits))
        report = app.shows(MLP, Recipe().quantize("fc1.weight", bits=bits))
        error = explorer.quantization_error(explorer.load(MLP), Recipe().quantize("fc1.weight", bits=bits))
        expect(app.read).to_contain_text(f"levels {2**bits - 1}")
        expect(app.read).to_contain_text(f"{error.sqnr_db[0]:.1f} dB SQNR")
        expect(app.page.locator(".thr .level")).to_have_count(2**bits - 1)
        seen.append((float(error.sqnr_db[0]), report.metrics["r2"]))
    assert seen[0][0] > seen[1][0] + 15 > seen[2][0] + 25 and seen[0][1] > seen[2][1] + 0.01
    app.healthy()


def test_what_correcting_biases_gains_or_loses_is_said(app: App) -> None:
    plain = Recipe().quantize("*", bits=3)
    recipe = plain.prepare("bias-correction")
    app.open(MLP, layer="fc1.weight", recipe=recipe)
    said = app.page.get_by_text("correct biases:")
    expect(said).to_be_visible(timeout=SLOW)
    n = int(re.search(r"n = ([\d,]+)", said.inner_text())[1].replace(",", ""))  # type: ignore[index]
    subject = explorer.load(MLP)
    before, after = (explorer.evaluate(subject, one, samples=n).metrics["r2"] for one in (plain, recipe))
    shown = f"{fmt.metric('r2', before)} → {fmt.metric('r2', after)} ({fmt.change('r2', after - before)})"
    expect(said).to_contain_text(shown)
    app.healthy()


@pytest.mark.slow
def test_sizes_on_screen_are_those_of_the_exported_files(app: App, tmp_path: Path) -> None:
    recipe = Recipe().prune("*", sparsity=0.5).quantize("rnn", bits=5)
    app.open(RNN, recipe=recipe)
    panel = app.tab("Size and speed")
    panel.get_by_role("button", name="Measure").click()
    expect(panel).to_contain_text("What may surprise", timeout=LONG)
    formats = ("safetensors", "onnx", "onnx-int8", "onnx-int4", "packed")
    bundle = explorer.export(explorer.load(RNN), recipe, tmp_path / "out", formats=formats)
    told = panel.get_by_test_id("stDataFrame").first
    for name in ("model.safetensors", "model.onnx", "model.int8.onnx", "model.int4.onnx", "model.packed"):
        expect(told).to_contain_text(f"{bundle.files[name]:,}", timeout=SLOW)
    packed = len(gzip.compress((bundle.folder / "model.packed").read_bytes(), 9, mtime=0))
    expect(told).to_contain_text(f"{packed:,}")
    counted = explorer.evaluate(explorer.load(RNN), recipe).bytes
    expect(panel).to_contain_text(f"{counted:,} B")
    expect(panel).to_contain_text("the rest is the graph")
    expect(panel).to_contain_text("estimated")
    panel.get_by_role("button", name="How it is estimated").click()
    expect(app.page.get_by_text("Horowitz, ISSCC 2014").first).to_be_visible(timeout=SLOW)
    app.healthy()
