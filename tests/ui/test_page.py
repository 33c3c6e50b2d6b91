"""The page as a whole: every model, both languages, both themes, small screens, the server's log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

import explorer
from explorer.core.recipe import Recipe
from explorer.ui.state import pack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import LENET, MLP, SLOW, App  # noqa: E402

SHOTS = Path(__file__).resolve().parents[2] / "test-results"
QUICK = ("bikes-mlp", "vowels-rnn")
REST = tuple(name for name in explorer.samples() if name not in QUICK)


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def visit(app: App, model: str) -> None:
    """Choose a model in the list, look at every tab but Export, drag."""
    field = app.page.get_by_role("combobox", name="Model")
    if field.input_value() != model:
        field.click()
        app.page.get_by_role("option", name=model, exact=True).click()
    expect(app.layer(explorer.load(model).layers[-1].name)).to_be_visible(timeout=SLOW)
    app.ready()
    app.shows(model, Recipe())
    for name in ("Layers", "Weights", "Changed"):
        app.tab(name)
        app.ready()
        app.healthy()
    app.drag(60)
    expect(app.page.locator(".x-tile").first).to_be_visible(timeout=SLOW)
    report = app.shows(model)
    assert 0 < report.counts.sparsity < 1
    app.healthy()


@pytest.mark.slow
def test_models_are_switched_on_the_page(app: App) -> None:
    app.open("bikes-mlp")
    for model in QUICK:
        visit(app, model)
    app.page.get_by_role("combobox", name="Model").click()
    app.page.get_by_role("option", name="bikes-mlp", exact=True).click()
    expect(app.layer(explorer.load("bikes-mlp").layers[-1].name)).to_be_visible()
    app.ready()
    app.page.wait_for_url("**model=bikes-mlp**")  # the address follows when the page is drawn
    assert app.recipe.rules, "a model's recipe is kept while another is looked at"
    app.shows("bikes-mlp")


@pytest.mark.slow
@pytest.mark.parametrize("model", REST)
def test_every_model_can_be_explored(app: App, model: str) -> None:
    visit(app.open(model), model)


def test_the_language_can_be_switched_and_a_linked_view_stays(app: App) -> None:
    app.open(MLP, view="layers")
    expect(app.page.get_by_role("radio", name="Layers", exact=True)).to_be_checked()
    app.drag(60)
    before = list(app.figures().values())
    app.page.get_by_role("button", name="tune").click()
    app.page.get_by_role("radio", name="简体中文").click()
    expect(app.page.get_by_role("tab", name="网络")).to_have_attribute("aria-selected", "true")
    expect(app.page.locator(".x-board")).to_have_attribute("data-complete", "true", timeout=SLOW)
    expect(app.page.locator(".x-card").first).to_contain_text(re.compile("[\u4e00-\u9fff]"))
    assert list(app.figures().values()) == before
    words = app.page.locator(".stMain").inner_text()
    expect(app.page.get_by_role("combobox", name="排序依据")).to_have_value(re.compile("幅值"))
    for english in ("Accuracy", "Undo", "Reset", "Recipe", "this layer", "Export", "measured"):
        assert english not in words, english
    app.page.get_by_role("radio", name="English").click()
    expect(app.page.get_by_role("tab", name="Changed")).to_be_visible()
    expect(app.page.locator("html")).to_have_attribute("lang", "en")
    expect(app.page.get_by_role("link", name="Skip to main content", exact=True)).to_have_count(1)
    assert "view=layers" in app.page.url


@pytest.mark.slow
def test_what_a_closed_popover_holds_is_sent_when_it_is_opened(app: App) -> None:
    app.open(MLP)
    inside = {"About": "What can be removed, and what cannot", "Recipe": "Nothing is pruned or quantized yet.", "as they are": "Before rounding, in the whole model"}
    for button, text in inside.items():
        assert app.page.get_by_text(text).count() == 0
        app.press(button)
        expect(app.page.get_by_text(text)).to_be_visible()
        app.page.keyboard.press("Escape")
        expect(app.page.get_by_text(text)).to_have_count(0)


def test_a_chinese_browser_is_greeted_in_chinese(browser: Browser, server: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN")
    page = context.new_page()
    page.goto(f"{server}/?{urlencode({'model': MLP, 'r': pack(Recipe().quantize('fc1', bits=4))})}")
    expect(page.locator(".x-board")).to_have_attribute("data-complete", "true", timeout=SLOW)
    expect(page.locator(".x-card").first).to_contain_text("准确率")
    expect(page.locator('[data-layer="fc1.weight"]')).to_contain_text("4 位")
    expect(page.locator(".thr .hint")).to_contain_text(re.compile("[\u4e00-\u9fff]"))
    page.screenshot(path=_shot("chinese"))
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN", timeout=SLOW)  # tells a screen reader how to say it
    expect(page.get_by_role("link", name="跳到正文", exact=True)).to_have_count(1)
    page.get_by_role("button", name="打开…").click()
    expect(page.get_by_role("button", name="上传", exact=True)).to_be_visible()
    context.close()


def _shot(name: str) -> str:
    SHOTS.mkdir(exist_ok=True)
    return str(SHOTS / f"{name}.png")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (1024, 768)], ids=["1440x900", "1024x768"])
def test_board_strip_and_histogram_are_within_the_first_screenful(browser: Browser, server: str, theme: str, size: tuple[int, int]) -> None:
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, locale="en-US", color_scheme=theme)  # type: ignore[arg-type]
    app = App(context.new_page(), server)
    recipe = Recipe().prune("fc1.weight", threshold=0.02).quantize("conv2.weight", bits=4)
    app.open(LENET, recipe=recipe)
    app.page.screenshot(path=_shot(f"explore-{width}x{height}-{theme}"))
    for part in (".x-board", ".ovw", ".thr svg", ".thr .read"):
        box = app.page.locator(part).first.bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= height, (part, box)
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, (part, box)
    for button in ("Undo", "Redo", "Reset"):
        box = app.page.get_by_role("button", name=button, exact=True).bounding_box()
        assert box is not None and box["x"] + box["width"] <= width and box["height"] < 60, (button, box)
    line = app.page.locator(".x-head span").first
    assert line.get_attribute("title") == line.inner_text(), "what does not fit can be read nowhere"
    above = app.page.locator(".stMainBlockContainer").evaluate("(e) => e.querySelector('.st-key-header').getBoundingClientRect().y - parseFloat(getComputedStyle(e).paddingTop)")
    assert abs(above) < 6, "something unseen takes room above the head"
    assert app.page.evaluate("document.documentElement.scrollWidth") <= width
    background = app.page.locator('[data-testid="stApp"]').evaluate("(e) => getComputedStyle(e).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (theme == "dark")
    dark = app.page.locator(".thr").evaluate("(e) => e.classList.contains('dark')")
    assert dark == (theme == "dark")
    cut = [card for card in app.page.locator(".x-value").all() if card.evaluate("(e) => e.scrollWidth > e.clientWidth")]
    assert not cut, "a figure does not fit its card"
    context.close()


@pytest.mark.slow
def test_the_board_does_not_flicker_while_the_handle_moves(app: App) -> None:
    app.open(MLP)
    app.page.evaluate(
        """() => {
            window.gaps = 0; window.shown = [];
            const watch = () => {
                const board = document.querySelector(".x-board"), value = board?.querySelector(".x-value")?.innerText;
                if (!value || document.querySelector(".x-blank")) window.gaps++;
                else if (value !== window.shown.at(-1)) window.shown.push(value);
                requestAnimationFrame(watch);
            };
            requestAnimationFrame(watch);
        }"""
    )
    x, y = app.grab()
    for i in range(1, 41):
        app.page.mouse.move(x + 2 * i, y)
        app.page.wait_for_timeout(25)
    assert app.page.evaluate("window.gaps") == 0 and app.page.evaluate("window.shown.length") > 3
    expect(app.page.locator(".x-before")).to_be_visible()  # the tab below still shows the last step
    with app.step():
        app.page.mouse.up()
    expect(app.page.locator(".x-before")).to_be_hidden()
    assert app.page.evaluate("window.gaps") == 0  # not in the run of the whole page either
    app.shows(MLP)


def test_the_servers_log_holds_no_traceback(app: App, tmp_path_factory: pytest.TempPathFactory) -> None:
    app.open(MLP)
    logs = list(tmp_path_factory.getbasetemp().glob("server*/log.txt"))
    assert logs
    text = "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
    assert "Traceback" not in text, text[text.index("Traceback") - 500 : text.index("Traceback") + 3000]
