"""Criteria in a real browser: another score, another cut, another accuracy; and a duel beside a drag."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from explorer.core.recipe import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import MLP, SLOW, App  # noqa: E402


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def rank_by(app: App, title: str) -> None:
    app.page.get_by_role("combobox", name="Ranked by").click()
    app.page.get_by_role("option").filter(has_text=title).first.click()


def test_another_criterion_shows_its_scores_cuts_by_them_and_changes_the_accuracy(app: App) -> None:
    first = Recipe().prune("fc2.weight", sparsity=0.9)
    app.open(MLP, layer="fc2.weight", recipe=first)
    by_size = app.shows(MLP, first)
    wanted = Recipe().prune("fc2.weight", sparsity=0.9, criterion="snip")
    with app.step():
        rank_by(app, "SNIP")
    by_snip = app.shows(MLP, wanted)
    assert by_snip.metrics["accuracy"] != by_size.metrics["accuracy"]
    expect(app.page.locator(".thr .now")).to_contain_text("score ≤")
    assert app.ready().recipe == wanted
    with app.step():
        app.slider.press("End")
    rule = app.ready().recipe.rules[0]
    assert rule.criterion == "snip" and rule.threshold is not None and rule.threshold > 0
    app.healthy()


@pytest.mark.slow
def test_a_duel_runs_while_the_page_answers(app: App) -> None:
    app.open(MLP, layer="fc2.weight")
    panel = app.tab("Criteria")
    expect(panel.get_by_test_id("stPlotlyChart").first.locator("text", has_text="1.00").first).to_be_visible(
        timeout=SLOW
    )
    expect(panel).to_contain_text("Over 2,000 of the weights.")
    panel.get_by_text("would remove first from fc2").click()
    expect(panel.get_by_text("one scale for all")).to_be_visible(timeout=SLOW)
    panel.get_by_role("button", name="Start the duel").click()
    app.slider.press("PageUp")
    expect(app.read).to_contain_text(re.compile(r"cut (?!0\.0)"), timeout=SLOW)
    chart = panel.get_by_test_id("stPlotlyChart").last
    expect(chart.locator(".legendtext", has_text="SNIP")).to_be_visible(timeout=SLOW)
    expect(panel.get_by_role("button", name="Stop")).to_have_count(0, timeout=SLOW)
    assert app.ready().recipe.rules[0].criterion == "l1"
    app.healthy()


@pytest.mark.slow
def test_gates_are_compared_and_step_by_step(app: App) -> None:
    app.open("vowels-lstm", layer="lstm.weight_ih_l1")
    panel = app.tab("Criteria")
    expect(panel.get_by_text("Which gates of lstm matter?")).to_be_visible(timeout=SLOW)
    bars = panel.get_by_test_id("stPlotlyChart").filter(has_text="lstm.weight_hh_l1")
    expect(bars.locator("text", has_text="forget gate").first).to_be_visible(timeout=SLOW)
    panel.get_by_text("Step by step").click()
    expect(panel.get_by_text("of 256 training samples")).to_be_visible(timeout=SLOW)
    expect(
        panel.get_by_test_id("stPlotlyChart").filter(has_text="time step").locator(".scatterlayer .trace")
    ).to_have_count(4)
    app.healthy()


@pytest.mark.slow
def test_a_ranking_of_all_layers_says_which_do_not_fit_and_what_to_do(app: App) -> None:
    everywhere = Recipe().prune("*", sparsity=0.5, scope="global")
    app.open("surnames-gru", layer="gru.weight_hh_l0", recipe=everywhere)
    rank_by(app, "SynFlow")
    expect(app.alerts).to_contain_text("SynFlow cannot score 1 of the 6 that are meant. embedding.weight", timeout=SLOW)
    expect(app.alerts).to_contain_text("on screen the lock")
    assert app.ready().recipe == everywhere  # the last good state stays
    app.open("surnames-gru", layer="gru.weight_hh_l0", recipe=everywhere.keep("embedding"))
    with app.step():
        rank_by(app, "SynFlow")
    assert app.recipe.rules[-1].criterion == "synflow"
    app.healthy()
