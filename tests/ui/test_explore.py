"""The page Explore in a real browser: every figure on the screen is checked against the package's own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

import explorer
from explorer.core.recipe import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import LENET, MLP, SLOW, App  # noqa: E402

FC1 = "fc1.weight"
HALF = Recipe().prune(FC1, threshold=0.02)


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def plan(recipe: Recipe, model: str = MLP) -> explorer.Plan:
    return explorer.resolve(explorer.load(model), recipe)


LONGEST = """() => { window.longest = 0; let since = performance.now(); const look = () => {
    if (document.querySelectorAll(".x-card").length == 5) since = performance.now();
    window.longest = Math.max(window.longest, performance.now() - since); requestAnimationFrame(look); }; look(); }"""


def test_a_drag_moves_the_metric_before_release_and_settles_after(app: App) -> None:
    app.open()
    app.shows(LENET, Recipe())
    expect(app.page.locator(".hint")).to_have_text("drag the orange handle")
    accuracy, size = app.figures()["accuracy"], app.figures()["size"]
    x, y = app.grab()
    for i in range(1, 25):
        app.page.mouse.move(x + 5 * i, y)
        app.page.wait_for_timeout(25)
    expect(app.card("accuracy")).not_to_have_text(accuracy)
    expect(app.card("size")).not_to_have_text(size)
    assert app.link == ""  # a link and a step are made on release
    expect(app.page.get_by_role("button", name="Undo", exact=True)).to_be_disabled()
    expect(app.note("accuracy")).to_contain_text("n = 10,000", timeout=SLOW)  # the hand rests, so the rest is looked at, too
    with app.step():
        app.page.mouse.up()
    report = app.shows(LENET)
    assert report.n == 10_000 and "10,000" in app.note("accuracy").inner_text()
    assert app.recipe.rules[0].threshold == pytest.approx(float(app.slider.get_attribute("aria-valuenow")), rel=1e-3)
    sparsity = report.counts.layers[FC1].sparsity
    expect(app.read).to_contain_text(f"cut {100 * sparsity:.1f} %")
    assert "≈" not in app.read.inner_text()
    assert app.left(FC1) == pytest.approx(100 * (1 - sparsity), abs=0.01) and app.left("conv1.weight") == 100
    expect(app.page.locator(".hint")).to_be_hidden()
    app.healthy()
    app.page.evaluate(LONGEST)
    with app.step():
        app.choose("Mode", "soft")
    app.shows(LENET)
    assert app.page.evaluate("window.longest") < 1000  # they stay while the rest is evaluated; Streamlit mounts them anew for some frames


@pytest.mark.slow
def test_the_handle_stays_where_it_was_released(app: App) -> None:
    app.open(MLP, layer="fc2.weight")
    app.drag(90)
    there = float(app.slider.get_attribute("aria-valuenow"))
    assert there > 0
    seen = set()
    for _ in range(12):
        seen.add(app.slider.get_attribute("aria-valuenow"))
        app.page.wait_for_timeout(60)
    assert len(seen) == 1
    assert there == pytest.approx(app.recipe.rules[0].threshold, rel=1e-3)


def test_keys_move_the_handle(app: App) -> None:
    app.open(MLP)
    app.slider.focus()
    with app.step():
        app.page.keyboard.press("PageUp")
    first = app.recipe.rules[0].threshold
    app.shows(MLP)
    assert app.slider.evaluate("(e) => e.getRootNode().activeElement === e"), "the focus was lost"
    with app.step():
        app.page.keyboard.press("ArrowRight")
    assert app.recipe.rules[0].threshold == pytest.approx(1.1 * first, rel=0.01)
    with app.step():
        app.page.keyboard.press("Home")
    assert app.recipe == Recipe()
    app.shows(MLP)


def test_undo_redo_and_reset_bring_back_the_exact_figures(app: App) -> None:
    app.open(MLP)
    states = [app.figures()]
    app.drag(70)
    app.shows(MLP)
    states.append(app.figures())
    app.select("fc2.weight")
    app.drag(110)
    report = app.shows(MLP)
    states.append(app.figures())
    assert sorted(rule.targets[0] for rule in app.recipe.rules) == [FC1, "fc2.weight"]
    assert report.counts.layers["fc2.weight"].sparsity > 0.1 and report.counts.layers[FC1].sparsity > 0.1
    assert len({json.dumps(state) for state in states}) == 3
    for name, state in (("Undo", 1), ("Undo", 0), ("Redo", 1), ("Redo", 2), ("Reset", 0)):
        with app.step():
            app.press(name)
        for term, text in states[state].items():
            expect(app.card(term)).to_have_text(text)
    with app.step():
        app.page.keyboard.press("Control+z")
    for term, text in states[2].items():
        expect(app.card(term)).to_have_text(text)
    expect(app.page.get_by_role("button", name="Redo", exact=True)).to_be_enabled()
    assert float(app.slider.get_attribute("aria-valuenow")) > 0
    app.healthy()


def test_neurons_go_and_the_model_shrinks(app: App) -> None:
    app.open(MLP)
    before = app.shows(MLP, Recipe()).counts
    app.choose("Prune", "neurons")
    expect(app.page.locator(".thr .now")).to_contain_text("0 / 300")
    x, y = app.grab()
    app.page.mouse.move(x + 200, y, steps=8)
    with app.step():
        app.page.mouse.up()
    report = app.shows(MLP)
    k = int(app.slider.get_attribute("aria-valuenow"))
    assert k > 30 and len(plan(app.recipe).kept["fc1"]) == 300 - k
    assert report.counts.macs < 0.9 * before.macs and report.counts.layers["fc2.weight"].remaining == 100 * (300 - k)
    expect(app.note("macs")).to_contain_text("after removal")
    assert app.left("fc2.weight") == pytest.approx(100 * (1 - k / 300), abs=0.1)  # its inputs go with them
    app.healthy()


@pytest.mark.slow
def test_blocks_go_whole_and_what_their_residual_carries_remains(app: App) -> None:
    app.open("fashion-resnet", "b3.conv1.weight")
    before = app.shows("fashion-resnet", Recipe()).counts
    app.choose("Prune", "blocks (depth)")
    expect(app.page.locator(".thr .now")).to_contain_text("0 / 3 blocks")
    expect(app.page.locator(".x-head")).to_contain_text("in the removable block b3")
    assert not app.page.get_by_text("Applies to").is_visible()
    expect(app.layer("b3.conv2.weight")).to_have_class(re.compile("coupled"))
    x, y = app.grab()
    app.page.mouse.move(x + 300, y, steps=8)
    with app.step():
        app.page.mouse.up()
    report = app.shows("fashion-resnet")
    gone = explorer.resolve(explorer.load("fashion-resnet"), app.recipe).removed
    assert 1 <= len(gone) < 3 and len(gone) == int(app.slider.get_attribute("aria-valuenow"))
    assert report.counts.macs < before.macs and report.counts.parameters < before.parameters
    assert app.left(f"{gone[0]}.conv1.weight") == 0
    for name in ("Layers", "Weights", "Changed"):
        app.tab(name)
        app.ready()
        app.healthy()


@pytest.mark.slow
def test_a_cut_of_all_layers_moves_every_column(app: App) -> None:
    app.open(MLP)
    app.choose("Applies to", "all layers")
    app.ready()
    x, y = app.grab()
    app.page.mouse.move(x + 60, y, steps=6)
    for name in ("fc2.weight", "fc3.weight"):  # still held
        expect(app.layer(name).locator(".fill")).not_to_have_attribute("style", "height: 100%;")
    with app.step():
        app.page.mouse.up()
    report = app.shows(MLP)
    for name, one in report.counts.layers.items():
        assert 0 < one.sparsity < 1 and app.left(name) == pytest.approx(100 * (1 - one.sparsity), abs=0.01)
    app.select("fc3.weight")
    expect(app.page.get_by_role("radio", name="all layers", exact=True)).to_be_checked()


@pytest.mark.slow
def test_bits_are_ticks_and_shrink_the_size(app: App) -> None:
    app.open(MLP, recipe=HALF)
    assert app.page.locator(".thr .level").count() == 0
    with app.step():
        app.choose("Bits", "4")
    expect(app.page.locator(".thr .level")).to_have_count(15)
    report = app.shows(MLP)
    assert report.counts.layers[FC1].bits == 4 and report.counts.bytes < 0.5 * explorer.evaluate(explorer.load(MLP), HALF).counts.bytes
    expect(app.read).to_contain_text("dB SQNR")
    expect(app.layer(FC1)).to_contain_text("4 bit")
    for label, option in (("Scales", "per tensor"), ("Scheme", "affine")):
        app.page.get_by_role("button", name="min-max").click()
        app.page.get_by_role("combobox", name=label).click()
        with app.step():
            app.page.get_by_role("option", name=option).click()
        app.page.keyboard.press("Escape")
    expect(app.read).to_contain_text("levels 16")  # the outermost may lie beyond the axis
    app.shows(MLP)
    with app.step():
        app.choose("Bits", "fp32")
    expect(app.page.locator(".thr .level")).to_have_count(0)
    assert app.recipe == HALF


def test_activations_are_clipped_by_two_handles(app: App) -> None:
    app.open(MLP, layer="fc2.weight")
    app.page.get_by_role("radio", name="activations").click()
    upper = app.page.get_by_role("slider", name="Upper clipping bound")
    expect(upper).to_be_visible()
    most = float(upper.get_attribute("aria-valuenow") or 0)
    upper.press("PageDown")
    expect(app.read).to_contain_text("dB SQNR")
    expect(app.read).to_contain_text("levels 256")
    app.page.get_by_role("radio", name="weights", exact=True).first.click()
    rule = app.ready().recipe.rules[-1]
    assert rule.kind == "activation-quantize" and rule.targets == ("fc2.weight",) and rule.bits == 8  # type: ignore[union-attr]
    assert rule.clip == (0.0, pytest.approx(most * 0.95, rel=0.01))  # type: ignore[union-attr]
    app.shows(MLP)


def test_soft_mode_attenuates_by_a_second_handle(app: App) -> None:
    app.open(MLP, recipe=HALF)
    with app.step():
        app.choose("Mode", "soft")
    expect(app.factor).to_be_visible()
    report = app.shows(MLP)
    assert app.recipe.rules[0].threshold == 0.02 and report.counts.sparsity < 0.001
    app.drag(0, 60, app.factor)
    factor = app.recipe.rules[0].factor
    assert 0.05 <= factor < 0.5 and float(app.factor.get_attribute("aria-valuenow")) == factor
    app.shows(MLP)
    expect(app.note("sparsity")).to_contain_text("attenuated")
    with app.step():
        app.choose("Mode", "shrink")
    expect(app.factor).to_be_hidden()
    app.shows(MLP)
    assert app.recipe.rules[0].mode == "shrink"


@pytest.mark.slow
def test_a_pattern_turns_the_handle_off_and_says_why(app: App) -> None:
    app.open(MLP)
    with app.step():
        app.choose("Prune", "N:M")
    expect(app.slider).to_have_attribute("aria-disabled", "true")
    expect(app.read).to_contain_text("2:4 fixes the cut")
    app.shows(MLP)
    link = app.link
    x, y = app.grab()
    app.page.mouse.move(x + 80, y, steps=3)
    app.page.mouse.up()
    app.page.wait_for_timeout(300)
    assert app.link == link
    with app.step():
        app.choose("Pattern", "1:4")
    assert app.shows(MLP).counts.layers[FC1].sparsity == pytest.approx(0.75, abs=0.001)
    with app.step():
        app.choose("Prune", "weights")
    expect(app.slider).to_have_attribute("aria-disabled", "false")
    assert app.recipe == Recipe()


def test_a_locked_layer_is_protected_until_it_is_unlocked(app: App) -> None:
    app.open(MLP, recipe=HALF)
    app.layer(FC1).focus()
    with app.step():
        app.page.keyboard.press("l")
    expect(app.slider).to_have_attribute("aria-disabled", "true")
    expect(app.read).to_contain_text("protected")
    assert app.shows(MLP).counts.sparsity < 0.001
    app.layer(FC1).focus()
    with app.step():
        app.page.keyboard.press("l")
    expect(app.slider).to_have_attribute("aria-disabled", "false")
    assert app.recipe == HALF
