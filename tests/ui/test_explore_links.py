"""Links, recipes and sessions, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import explorer
from explorer.core.recipe import Recipe
from explorer.core.targets import effective
from explorer.ui.state import pack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import LENET, MLP, App, number  # noqa: E402

FC1 = "fc1.weight"
HALF = Recipe().prune(FC1, threshold=0.02)


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


@pytest.mark.slow
def test_a_link_brings_the_state_to_another_browser(app: App, browser: Browser, server: str) -> None:
    app.open(MLP)
    app.select("fc2.weight")
    app.drag(100)
    with app.step():
        app.choose("Bits", "5")
    app.shows(MLP)
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
    other = App(context.new_page(), server)
    other.page.goto(app.page.url)
    other.ready()
    other.shows(MLP, app.recipe)
    assert other.figures() == app.figures() and other.recipe == app.recipe
    expect(other.page.locator(".x-head b")).to_have_text("fc2.weight")
    assert other.slider.get_attribute("aria-valuenow") == app.slider.get_attribute("aria-valuenow")
    other.page.reload()
    other.ready()
    assert other.figures() == app.figures()
    context.close()


BAD = {"cut short": pack(HALF)[:-12], "not a link": "%%%", "of another model": pack(Recipe().prune("rnn.weight_hh_l0", sparsity=0.5))}


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=why, marks=() if why == "of another model" else pytest.mark.slow) for why, text in BAD.items()]
)
def test_a_bad_link_says_so_once_and_the_page_lives(app: App, text: str) -> None:
    app.open(MLP, r=text)
    expect(app.alerts).to_have_count(1)
    expect(app.alerts).to_contain_text("That recipe was not used")
    app.shows(MLP, Recipe())
    expect(app.alerts).to_be_visible()  # once the figures have settled, too
    app.drag(60)
    expect(app.alerts).to_have_count(0)
    app.shows(MLP)


def test_unknown_models_and_layers_in_a_link_fall_back(app: App) -> None:
    app.open(model="no-such-model", layer="no.such.layer")
    expect(app.page.get_by_text("No model 'no-such-model' here")).to_be_visible()
    expect(app.page.locator(".x-head b")).to_have_text(FC1)
    app.shows(LENET, Recipe())


@pytest.mark.slow
def test_a_bad_recipe_is_refused_beside_the_field_and_the_state_stays(app: App) -> None:
    app.open(MLP, recipe=HALF)
    before = app.figures()
    app.press("Recipe")
    area = app.page.get_by_label("Paste a recipe")
    for text, message in (
        ("{", "not valid JSON"),
        (Recipe().prune("rnn.weight_hh_l0", sparsity=0.5).to_json(), "names no layer of fashion-mlp"),
        (HALF.to_json().replace("0.02", "NaN"), "threshold"),
    ):
        area.fill(text)
        area.press("Control+Enter")
        app.press("Use this recipe")
        expect(app.alerts).to_contain_text(message)
        assert app.recipe == HALF and app.figures() == before
    area.fill(Recipe().prune(FC1, sparsity=0.5).quantize("*", bits=6).to_json())
    area.press("Control+Enter")
    with app.step():
        app.press("Use this recipe")
    expect(app.alerts).to_have_count(0)
    assert app.recipe == Recipe().prune(FC1, sparsity=0.5).quantize("*", bits=6)
    app.shows(MLP)
    with app.step():
        app.press("Undo")
    assert app.recipe == HALF


@pytest.mark.slow
def test_two_sessions_do_not_disturb_each_other(app: App, browser: Browser, server: str) -> None:
    app.open(MLP, recipe=HALF)
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
    other = App(context.new_page(), server).open(LENET)
    other.drag(60)
    other.shows(LENET)
    app.drag(30)
    app.shows(MLP)
    other.shows(LENET)
    assert number(other.card("sparsity").inner_text()) > 0
    context.close()


@pytest.mark.slow
def test_one_layers_settings_for_all_like_it_and_away_again(app: App) -> None:
    app.open(MLP, recipe=HALF.quantize(FC1, bits=3))
    own = explorer.evaluate(explorer.load(MLP), HALF).counts.layers[FC1].sparsity
    with app.step():
        app.press("Same for all like this")
    report = app.shows(MLP)
    for name in (FC1, "fc2.weight", "fc3.weight"):
        masked = explorer.resolve(explorer.load(MLP), app.recipe).cut_fraction(name)
        assert masked == pytest.approx(own, abs=0.001) and report.counts.layers[name].bits == 3
    with app.step():
        app.press("Clear layer")
    holds = effective(app.recipe.rules, explorer.load(MLP).layers)[0]
    assert not holds[FC1] and holds["fc2.weight"]
    app.shows(MLP)
    expect(app.page.get_by_role("button", name="Clear layer", exact=True)).to_be_disabled()


def test_one_step_back_leaves_the_page_or_undoes_the_change_however_fast(app: App) -> None:
    app.open(MLP, recipe=HALF)
    explore, entries = app.page.url, app.page.evaluate("history.length")
    app.press("Recover")
    expect(app.card("damaged")).to_be_visible()
    app.page.wait_for_url("**/recover?**")
    assert app.page.evaluate("history.length") == entries + 1
    app.page.go_back()
    app.ready()
    assert app.page.url == explore and app.recipe == HALF
    app.page.go_forward()
    expect(app.card("damaged")).to_be_visible()
    app.press("Explore")
    app.ready()
    app.slider.focus()
    app.page.keyboard.press("Home")
    app.page.wait_for_function("(before) => location.href !== before", arg=explore)
    app.page.go_back()  # at once
    expect(app.note("sparsity")).not_to_contain_text("0 of")
    app.ready()
    assert app.page.url == explore
    app.shows(MLP, HALF)
