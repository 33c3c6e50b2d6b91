"""The tab Sensitivity in a real browser: curves are the package's, drags are answered meanwhile, clicks and suggestions are steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import explorer
from explorer.core.recipe import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import LENET, SLOW, App  # noqa: E402

DONE, RUNNING = '[data-scan="done"]', '[data-scan="running"]'


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def open_tab(app: App, model: str, recipe: Recipe | None = None) -> Locator:
    app.open(model, recipe=recipe)
    return app.tab("Sensitivity")


def scan(app: App, what: str = "") -> None:
    if what:
        app.choose("What is changed", what)
        expect(app.page.get_by_text("those of the former settings")).to_be_visible(timeout=SLOW)
    app.ready()
    app.press("Scan")
    expect(app.page.get_by_text("those of the former settings")).to_have_count(0, timeout=SLOW)
    expect(app.page.locator(DONE)).to_contain_text("points in", timeout=SLOW)
    expect(app.page.locator(".js-plotly-plot .trace").first).to_be_visible(timeout=SLOW)
    app.ready()


def drawn(app: App) -> dict[str, list[list[float]]]:
    """{target: [[step, change], ...]} of the figure on screen."""
    script = """() => Object.fromEntries(document.querySelector('.js-plotly-plot').calcdata.filter(c => c[0].trace.name && c[0].trace.customdata)
        .map(c => [c[0].trace.name, c.map((p, i) => [c[0].trace.customdata[i][1], p.y])]))"""
    return app.page.evaluate(script)  # type: ignore[no-any-return]


def click_point(app: App, target: str, index: int) -> None:
    """Click a point of a curve."""
    script = """([target, index]) => { const plot = document.querySelector('.js-plotly-plot'); plot.scrollIntoView({block: 'center'});
        const trace = plot.calcdata.find(c => c[0].trace.name === target); const box = plot.getBoundingClientRect();
        const layout = plot._fullLayout, of = a => layout[a === 'x' || a === 'y' ? a + 'axis' : a[0] + 'axis' + a.slice(1)];
        const x = of(trace[0].trace.xaxis), y = of(trace[0].trace.yaxis), p = trace[index];
        return [box.left + x._offset + x.c2p(p.x), box.top + y._offset + y.c2p(p.y)]; }"""
    x, y = app.page.evaluate(script, [target, index])
    app.page.mouse.move(x, y)
    app.page.wait_for_timeout(300)
    app.page.mouse.click(x, y)


def same(app: App, table: Any, by: str, factor: float = 100) -> None:
    """The figure shows the table's curves, as soon as it is drawn."""
    names = table.group.where(table.group != "", table.layer)
    expected = {
        str(name): [[getattr(row, by), factor * row.change] for row in rows.drop_duplicates(by).itertuples()]
        for name, rows in table.groupby(names)
    }

    def told(curves: dict[str, list[list[float]]]) -> dict[str, Any]:
        return {
            name: pytest.approx([value for point in points for value in point], abs=1e-4)
            for name, points in curves.items()
        }

    for _ in range(100):
        found = {name: [value for point in points for value in point] for name, points in drawn(app).items()}
        if found == told(expected):
            return
        app.page.wait_for_timeout(200)
    assert found == told(expected)


@pytest.mark.slow
def test_the_curves_are_the_packages_and_a_click_sets_a_step(app: App) -> None:
    open_tab(app, "vowels-lstm")
    scan(app)
    same(app, explorer.sensitivity(explorer.load("vowels-lstm")), "sparsity")
    with app.step():
        click_point(app, "lstm.weight_hh_l0", 4)
    assert app.recipe == Recipe().prune("lstm.weight_hh_l0", sparsity=0.5)
    expect(app.page.locator(".x-head b").first).to_have_text("lstm.weight_hh_l0")
    app.shows("vowels-lstm")
    scan(app, "units of groups")
    same(app, explorer.sensitivity(explorer.load("vowels-lstm"), granularity="unit"), "sparsity")
    scan(app, "both")
    both = explorer.sensitivity(explorer.load("vowels-lstm"), granularity=("weight", "unit"))
    same(app, both, "sparsity")
    expect(app.page.get_by_text("groups overlap, so their shares sum to more than 100 %")).to_be_visible()
    with app.step():
        click_point(app, "lstm.l1", 2)
    assert app.recipe.rules[-1].granularity == "unit" and app.recipe.rules[-1].sparsity == pytest.approx(0.3)
    with app.step():
        app.press("Undo")
    assert len(app.recipe.rules) == 1
    scan(app, "bits of layers")
    same(app, explorer.sensitivity(explorer.load("vowels-lstm"), by="bits"), "bits")
    app.healthy()


@pytest.mark.slow
def test_a_suggestion_is_one_step_and_meets_its_goal(app: App) -> None:
    locked = Recipe().keep("head")
    open_tab(app, "bikes-mlp", locked)
    scan(app)
    assert set(drawn(app)) == {"fc1.weight", "fc2.weight"}  # the locked layer is not scanned
    with app.step():
        click_point(app, "fc1.weight", 4)
    assert app.recipe == locked.prune("fc1.weight", sparsity=0.5)
    with app.step():
        app.press("Undo")
    app.choose("Goal", "sparsity of all weights")
    field = app.page.get_by_label("at least, %")
    field.fill("50")
    field.press("Enter")
    app.ready()
    app.press("Suggest")
    expect(app.page.get_by_text("they do not add up exactly")).to_be_visible(timeout=SLOW)
    with app.step():
        app.press("Use these")
    report = app.shows("bikes-mlp")
    assert report.sparsity >= 0.5 and app.recipe.rules[0] == locked.rules[0] and len(app.recipe.rules) == 3
    expect(app.page.get_by_role("button", name="Use these", exact=True)).to_be_disabled()
    with app.step():
        app.press("Undo")
    assert app.recipe == locked
    app.healthy()


def test_a_drag_is_answered_while_a_scan_runs_which_is_cancelled_and_goes_on(app: App) -> None:
    open_tab(app, LENET)
    app.page.get_by_text("every sample", exact=True).click()
    app.ready()
    app.press("Scan")
    expect(app.page.locator(RUNNING)).to_be_visible(timeout=SLOW)
    accuracy = app.figures()["accuracy"]
    x, y = app.grab()
    for i in range(1, 13):
        app.page.mouse.move(x + 10 * i, y)
        app.page.wait_for_timeout(40)
    expect(app.card("accuracy")).not_to_have_text(accuracy)
    expect(app.page.locator(RUNNING)).to_have_count(1)  # answered meanwhile
    with app.step():
        app.page.mouse.up()
    app.shows(LENET)
    expect(app.page.locator(".js-plotly-plot .trace").first).to_be_visible(timeout=SLOW)
    app.press("Cancel")
    expect(app.page.locator(DONE)).to_contain_text("cancelled", timeout=SLOW)
    app.press("Go on")
    expect(app.page.locator(RUNNING)).to_contain_text("points finished", timeout=SLOW)
    app.press("Cancel")
    expect(app.page.locator(DONE)).to_be_visible(timeout=SLOW)
    app.healthy()


@pytest.mark.slow
def test_a_whole_scan_of_every_sample_beside_drags(app: App) -> None:
    open_tab(app, LENET)
    app.page.get_by_text("every sample", exact=True).click()
    app.ready()
    app.press("Scan")
    expect(app.page.locator(RUNNING)).to_be_visible(timeout=SLOW)
    for dx in (40, 60, -30):
        app.drag(dx)
    expect(app.page.locator(DONE)).to_be_visible(timeout=5 * SLOW)
    app.ready()
    same(app, explorer.sensitivity(explorer.load(LENET), exact=True), "sparsity")
    app.healthy()


@pytest.mark.slow
def test_units_go_by_their_error(app: App) -> None:
    open_tab(app, "bikes-mlp")
    app.page.get_by_text("Error-based pruning: remove").click()
    field = app.page.get_by_label("All together at most")
    field.fill("0.001")
    field.press("Enter")
    app.ready()
    app.press("Start")
    use = app.page.get_by_role("button", name="Remove these units", exact=True)
    expect(use).to_be_enabled(timeout=SLOW)
    with app.step():
        use.click()
    report = app.shows("bikes-mlp")
    named = {rule.targets[0]: rule.units for rule in app.recipe.rules}
    assert (
        named
        and all(named.values())
        and report.counts.layers["fc1.weight"].remaining < report.counts.layers["fc1.weight"].original
    )
    app.healthy()
