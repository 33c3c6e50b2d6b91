"""The page Recover in a real browser: damage, retrain, watch, cancel, take over, export; and a drag beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import explorer
from explorer.core.recipe import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import MLP, SLOW, App, number  # noqa: E402

LSTM = "vowels-lstm"
DAMAGE = Recipe().prune("*", sparsity=0.9, scope="global")


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


@pytest.fixture
def other(app: App) -> Iterator[App]:
    """Somebody else's browser."""
    browser = app.page.context.browser
    assert browser is not None
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
    yield App(context.new_page(), app.url)
    context.close()


def recover(app: App, model: str, epochs: int) -> None:
    """Damage a model, go to the page, start a training of so many epochs."""
    app.open(model, recipe=DAMAGE)
    app.press("Recover")
    expect(app.card("damaged")).to_be_visible(timeout=SLOW)
    app.choose("How long", "epochs")
    field = app.page.get_by_label("Epochs", exact=True)
    field.fill(str(epochs))
    field.press("Enter")
    app.page.locator(".st-key-retrain button").click()
    expect(app.page.get_by_role("button", name="Cancel")).to_be_visible(timeout=SLOW)


def test_a_damaged_model_is_recovered_taken_over_and_exported(app: App, tmp_path: Path) -> None:
    recover(app, LSTM, 12)
    report = explorer.evaluate(explorer.load(LSTM), DAMAGE)
    assert number(app.card("damaged").inner_text()) == pytest.approx(100 * report.metrics["accuracy"], abs=0.06)
    expect(app.page.locator(".js-plotly-plot").first).to_be_visible(timeout=SLOW)  # watched while it goes on
    expect(app.page.get_by_role("button", name="Use this model")).to_be_visible(timeout=SLOW)
    seen = number(app.card("recovered").inner_text())
    assert seen > 100 * report.metrics["accuracy"] + 20
    app.page.get_by_role("button", name="Use this model").click()
    app.ready()
    assert number(app.card("accuracy").inner_text()) == seen and app.card("sparsity").inner_text() == "90.0 %"
    app.page.go_back()
    expect(app.card("recovered")).to_be_visible(timeout=SLOW)
    app.page.go_forward()
    app.ready()
    app.page.reload()  # and it is still there
    app.ready()
    assert number(app.card("accuracy").inner_text()) == seen and app.card("sparsity").inner_text() == "90.0 %"
    panel = app.tab("Export")
    panel.get_by_role("button", name="Export", exact=False).last.click()
    button = panel.get_by_role("button", name="Download all as zip")
    expect(button).to_be_visible(timeout=SLOW)
    with app.page.expect_download() as download:
        button.click()
    file = tmp_path / "tuned.zip"
    download.value.save_as(file)
    module = explorer.load_exported(file)
    zeros = sum(int((p == 0).sum()) for name, p in module.named_parameters() if p.ndim > 1)
    total = sum(p.numel() for p in module.parameters() if p.ndim > 1)
    assert zeros / total == pytest.approx(0.9, abs=0.001)
    app.press(LSTM)  # the parent is one click away
    app.shows(LSTM, DAMAGE)
    app.healthy()


def test_a_drag_answers_while_another_browser_trains_and_sees_nothing_of_it(app: App, other: App) -> None:
    recover(app, LSTM, 1000)
    other.open(MLP)
    other.drag(60)
    other.shows(MLP)
    expect(app.page.get_by_role("button", name="Cancel")).to_be_visible()  # it still trains
    other.press("Recover")
    expect(other.card("damaged")).to_be_visible(timeout=SLOW)
    expect(other.page.get_by_text("My jobs")).to_have_count(0)
    other.page.locator(".st-key-retrain button").click()
    row = other.page.locator('[class*="st-key-job-row"]')
    expect(row).to_contain_text("waiting", timeout=SLOW)  # one trains at a time
    app.page.get_by_role("button", name="Cancel").click()
    expect(app.page.get_by_text("the best so far is kept").first).to_be_visible(timeout=SLOW)
    expect(app.page.get_by_role("button", name="Use this model")).to_be_visible(timeout=SLOW)
    expect(row).to_contain_text("running", timeout=SLOW)
    other.page.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("cancelled", timeout=SLOW)
    app.page.reload()  # the browser was closed and is back: its jobs are still there
    expect(app.page.get_by_text("My jobs")).to_be_visible(timeout=SLOW)
    app.healthy()


def test_nothing_to_recover_is_said_before_anything_starts(app: App) -> None:
    app.open(MLP)
    app.press("Recover")
    expect(app.page.get_by_text("Nothing is damaged yet")).to_be_visible(timeout=SLOW)
    expect(app.page.locator(".st-key-retrain button")).to_be_disabled()
    app.press("Explore")
    app.ready()
    app.shows(MLP, Recipe())
