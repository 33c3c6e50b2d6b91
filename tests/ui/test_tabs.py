"""The tabs below the histogram, in a real browser."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
import torch

import explorer
from explorer.core.recipe import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import MLP, SLOW, App  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CUT = Recipe().prune("fc1.weight", sparsity=0.9).prune("fc2.weight", sparsity=0.5, granularity="unit").quantize("fc3.weight", bits=3)


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def report(model: str = MLP, recipe: Recipe = CUT) -> explorer.Report:
    return explorer.evaluate(explorer.load(model), recipe)


def test_changed_shows_classes_and_the_samples_that_flipped(app: App) -> None:
    app.open(MLP, recipe=CUT)
    panel = app.tab("Changed")
    seen = report()
    wrong = sum(change.kind == "now wrong" for change in seen.changed)
    expect(panel).to_contain_text(f"{len(seen.changed):,} of 10,000 answers changed: {wrong:,} now wrong", timeout=SLOW)
    expect(panel.locator(".x-tiles img")).to_have_count(16)
    first = panel.locator(".x-tiles img").first
    assert first.evaluate("(e) => e.complete && e.naturalWidth") == 28
    expect(panel.get_by_test_id("stPlotlyChart")).to_have_count(1)
    worst = min(seen.per_class, key=lambda name: seen.per_class[name].recall - seen.per_class[name].recall_before)
    expect(panel).to_contain_text(f"{worst} loses")
    app.choose("View", "Confusion matrix")
    chart = panel.get_by_test_id("stPlotlyChart")
    diagonal = str(seen.confusion[1][0][0])
    expect(chart.locator("text", has_text=diagonal).first).to_be_visible(timeout=SLOW)
    app.choose("When", "before")
    expect(chart.locator("text", has_text=str(seen.confusion[0][0][0])).first).to_be_visible(timeout=SLOW)
    app.healthy()


def test_try_one_shows_both_answers(app: App) -> None:
    app.open(MLP, recipe=CUT)
    panel = app.tab("Changed")
    panel.get_by_text("Try one: see both models' answers").click()
    flipped = next(change for change in report().changed if change.kind == "now wrong")
    before, after = panel.locator(".stColumn", has_text="original").last, panel.locator(".stColumn", has_text="compressed").last
    names = explorer.load(MLP).task.classes
    field = panel.get_by_label("Sample of the validation split")
    field.fill(str(flipped.index))
    field.press("Enter")
    expect(panel).to_contain_text(f"target: {names[int(flipped.target)]}", timeout=SLOW)
    expect(before.locator("div > span").first).to_have_text(names[int(flipped.before)])
    expect(after.locator("div > span").first).to_have_text(names[int(flipped.after)])


def graphs(app: App) -> list[FrameLocator]:
    """Netron's two frames, drawn."""
    app.tab("Graph")
    frames = app.page.locator('iframe[src*="/netron/"]')
    expect(frames).to_have_count(2, timeout=SLOW)
    drawn = [app.page.frame_locator('iframe[src*="/netron/"]').nth(i) for i in range(2)]
    for frame in drawn:
        expect(frame.locator(".node-item").first).to_be_visible(timeout=SLOW)
    return drawn


def test_netron_draws_both_graphs_and_marks_the_compressed_one(app: App) -> None:
    app.open(MLP, recipe=CUT)  # the page fixture fails if a request leaves the host
    before, after = graphs(app)
    expect(after.locator(".x-mark")).to_have_count(3)
    expect(after.locator(".x-quantized")).to_have_count(1)
    expect(before.locator(".x-quantized")).to_have_count(0)
    shares = []
    for mark in after.locator(".x-mark").all():  # one by one: Netron turns eval off, by which several are asked at once
        shares.append(float((mark.get_attribute("style") or "").split("--x-sparsity:")[1].split("%")[0]))
    sparsities = [one.sparsity for one in report().counts.layers.values()]
    assert sorted(shares) == pytest.approx(sorted(100 * s for s in sparsities), abs=0.06)
    app.healthy()


def test_two_sessions_do_not_see_each_others_graphs(app: App, browser: Browser, server: str) -> None:
    def tokens(one: App) -> set[str]:
        found = set()
        for frame in one.page.locator('iframe[src*="/netron/"]').all():
            query = parse_qs(urlsplit(frame.get_attribute("src") or "").query)
            found |= {query["url"][0], query["marks"][0]}
        return found

    app.open(MLP, recipe=CUT)
    graphs(app)
    context = browser.new_context(locale="en-US")
    other = App(context.new_page(), server).open("bikes-mlp", recipe=Recipe().prune("*", sparsity=0.5))
    graphs(other)
    assert len(tokens(app)) == 4 and not tokens(app) & tokens(other)
    for one, model in ((app, MLP), (other, "bikes-mlp")):
        assert all(model in token or "marks.json" in token for token in tokens(one))
    for address in tokens(other):
        answer = context.request.get(server + address)
        assert answer.ok and answer.headers["cache-control"] == "no-store"
    context.close()


@pytest.mark.slow
def test_the_table_of_layers_can_be_taken_away(app: App) -> None:
    app.open(MLP, recipe=CUT)
    panel = app.tab("Layers")
    expect(panel.get_by_test_id("stDataFrame")).to_be_visible()
    with app.page.expect_download() as taken:
        panel.get_by_role("button", name="Download CSV").click()
    assert taken.value.suggested_filename == "fashion-mlp-layers.csv"
    rows = list(csv.DictReader(io.StringIO(Path(taken.value.path()).read_text(encoding="utf-8"))))
    for row, one in zip(rows, report().counts.layers.values(), strict=True):
        assert row["layer"] == one.name and int(row["nonzero"]) == one.nonzero and int(row["bytes"]) == one.bytes
        assert float(row["sparsity"]) == pytest.approx(one.sparsity) and int(row["bits"]) == one.bits


@pytest.mark.slow
def test_weights_are_drawn_with_their_mask(app: App) -> None:
    app.open(MLP, layer="fc3.weight", recipe=CUT)
    panel = app.tab("Weights")
    expect(panel).to_contain_text("fc3.weight")
    expect(panel.get_by_test_id("stPlotlyChart").locator("svg, canvas").first).to_be_visible(timeout=SLOW)
    app.select("fc1.weight")
    expect(panel).to_contain_text("one row and column in 4")
    app.healthy()


LOAD = """
import sys, json, torch, explorer
module = explorer.load_exported(sys.argv[1])
inputs = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    torch.save(module(inputs), sys.argv[3])
"""


def test_an_export_is_verified_and_loads_elsewhere(app: App, tmp_path: Path) -> None:
    app.open(MLP, recipe=CUT)
    panel = app.tab("Export")
    panel.get_by_role("button", name="Export", exact=False).last.click()
    button = panel.get_by_role("button", name="Download all as zip")
    expect(button).to_be_visible(timeout=2 * SLOW)
    tested = explorer.evaluate(explorer.load(MLP), CUT, split="test")
    expect(panel).to_contain_text(f"test · n = {tested.n:,}")
    expect(panel).to_contain_text(f"{100 * tested.figures['accuracy'].value:.1f} %")
    with app.page.expect_download() as taken:
        button.click()
    folder = tmp_path / "out"
    with zipfile.ZipFile(taken.value.path()) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    [recipe] = list(folder.rglob("recipe.json"))
    names = {path.name for path in recipe.parent.iterdir()}
    assert {"model.safetensors", "model.onnx", "report.json", "README.md"} <= names
    assert Recipe.from_json(recipe.read_text(encoding="utf-8")) == CUT
    assert json.loads((recipe.parent / "report.json").read_text(encoding="utf-8"))
    inputs = torch.stack([explorer.load(MLP).task.dataset("test")[i][0] for i in range(8)])
    torch.save(inputs, tmp_path / "in.pt")
    subprocess.run([sys.executable, "-c", LOAD, str(recipe.parent), str(tmp_path / "in.pt"), str(tmp_path / "out.pt")], cwd=ROOT, check=True, timeout=120)
    with torch.no_grad():
        wanted = explorer.compress(explorer.load(MLP), CUT)(inputs)
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert (found - wanted).abs().max() <= 1e-6 * max(1.0, float(wanted.abs().max()))
    app.healthy()
