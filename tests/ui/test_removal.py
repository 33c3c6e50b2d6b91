"""Hidden units and heads, from the handle to a file that another program runs, in a real browser."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import explorer
from explorer.core.recipe import Recipe
from explorer.models.trial import difference

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import SLOW, App  # noqa: E402

LSTM, VIT = "vowels-lstm", "fashion-vit"


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def drag_units(app: App, unit: str, units: int, by: int) -> int:
    """Drag the cut over the bars of a group's units; the accuracy moves before the handle is let go. How many go."""
    app.choose("Prune", unit)
    expect(app.page.locator(".thr .now")).to_contain_text(f"0 / {units}")
    app.ready()  # a page that is still being drawn may move the handle from under the pointer
    before = app.figures()
    x, y = app.grab()
    for i in range(1, 21):
        app.page.mouse.move(x + i * by / 20, y)
        app.page.wait_for_timeout(25)
    expect(app.page.locator(".thr .now")).not_to_contain_text(f"0 / {units}")  # the handle was taken
    for i in range(30):  # a first look at few samples may happen to agree with the original's accuracy
        if app.figures().get("accuracy") != before["accuracy"]:
            break
        app.page.mouse.move(x + by + 8 * (i % 8), y)
        app.page.wait_for_timeout(150)
    expect(app.card("size")).not_to_have_text(before["size"])
    expect(app.card("accuracy")).not_to_have_text(before["accuracy"])
    assert app.link == ""  # nothing is settled while the button is down
    with app.step():
        app.page.mouse.up()
    return int(app.slider.get_attribute("aria-valuenow") or 0)


def exported(app: App, folder: Path) -> Path:
    """The bundle, as the browser downloads it."""
    panel = app.tab("Export")
    panel.get_by_role("button", name="Export", exact=False).last.click()
    button = panel.get_by_role("button", name="Download all as zip")
    expect(button).to_be_visible(timeout=2 * SLOW)
    with app.page.expect_download() as taken:
        button.click()
    with zipfile.ZipFile(taken.value.path()) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    [recipe] = list(folder.rglob("recipe.json"))
    return recipe.parent


def runs_elsewhere(bundle: Path, model: str, recipe: Recipe) -> Any:
    """The files give what compress gives, on test samples: without the sample's own code, and in ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    assert Recipe.from_json((bundle / "recipe.json").read_text(encoding="utf-8")) == recipe
    subject = explorer.load(model)
    compressed = explorer.compress(subject, recipe)
    inputs, _ = subject.task.batch("test", range(8))
    with torch.no_grad():
        wanted, original = compressed(inputs), subject.copy()(inputs)
        loaded = explorer.load_exported(bundle)
        assert difference(wanted, loaded(inputs)) <= 1e-6 < difference(original, wanted)
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    found = torch.from_numpy(session.run(None, {given.name: inputs.numpy()})[0])
    assert difference(wanted, found) <= 1e-4
    return loaded


def test_hidden_units_are_dragged_away_and_the_files_run_elsewhere(app: App, tmp_path: Path) -> None:
    app.open(LSTM, layer="lstm.weight_hh_l1")
    before = app.shows(LSTM, Recipe()).counts
    gone = drag_units(app, "hidden units", 64, 260)
    after = app.shows(LSTM).counts
    kept = 64 - gone
    assert 8 < gone < 64 and len(explorer.resolve(explorer.load(LSTM), app.recipe).kept["lstm.l1"]) == kept
    assert after.macs < before.macs and after.layers["head.weight"].remaining == 9 * kept
    recipe = app.recipe
    loaded = runs_elsewhere(exported(app, tmp_path / "out"), LSTM, recipe)
    assert loaded.get_parameter("lstm.weight_hh_l1").shape == (4 * kept, kept)
    assert loaded.get_parameter("lstm.weight_hh_l0").shape == (256, 64)  # the other layer stays
    app.healthy()


@pytest.mark.slow
def test_heads_are_dragged_away_and_the_files_run_elsewhere(app: App, tmp_path: Path) -> None:
    app.open(VIT, layer="blocks.1.attn.q.weight")
    before = app.shows(VIT, Recipe()).counts
    gone = drag_units(app, "heads", 4, 260)
    after = app.shows(VIT).counts
    assert 1 <= gone <= 3 and after.macs < before.macs
    recipe = app.recipe
    loaded = runs_elsewhere(exported(app, tmp_path / "out"), VIT, recipe)
    assert loaded.get_parameter("blocks.1.attn.q.weight").shape == (16 * (4 - gone), 64)
    assert loaded.get_parameter("blocks.0.attn.q.weight").shape == (64, 64)
    app.healthy()
