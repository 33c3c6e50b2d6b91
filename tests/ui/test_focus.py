"""Where the keyboard is after a control that it has used was built anew, or can no longer be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from explorer.core.recipe import Recipe
from explorer.ui.components import source

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import MLP, App  # noqa: E402


@pytest.fixture
def app(page: Page, server: str) -> App:
    return App(page, server)


def test_the_keyboard_stays_at_the_control_that_it_has_set(app: App) -> None:
    app.open(MLP)
    eight = app.page.get_by_role("radiogroup", name="Bits", exact=True).get_by_role("radio", name="8", exact=True)
    eight.focus()
    with app.step():
        app.page.keyboard.press("Enter")
    expect(eight).to_be_checked()
    expect(eight).to_be_focused()  # it was built anew


def button(app: App, name: str) -> Locator:
    return app.page.get_by_role("button", name=name, exact=True)


def enter(app: App, name: str) -> None:
    """Press a button by the keyboard, as one step; it cannot be pressed again."""
    button(app, name).focus()
    with app.step():
        app.page.keyboard.press("Enter")
    expect(button(app, name)).to_be_disabled()


def test_the_keyboard_goes_on_beside_a_button_that_is_used_up(app: App) -> None:
    app.open(MLP)
    app.slider.focus()
    with app.step():
        app.page.keyboard.press("PageUp")
    for used, beside in (("Undo", "Redo"), ("Redo", "Undo"), ("Reset", "Undo")):
        enter(app, used)
        expect(button(app, beside)).to_be_focused()


def test_the_keyboard_goes_on_near_buttons_that_are_used_up_together(app: App) -> None:
    app.open(MLP, recipe=Recipe().prune("fc1.weight", threshold=0.02))
    enter(app, "Clear layer")
    expect(button(app, "Same for all like this")).to_be_disabled()
    expect(button(app, "as they are")).to_be_focused()  # the last control before them


def test_the_keyboard_is_kept_where_it_was_before_the_script_came(app: App) -> None:
    app.page.add_init_script("window.explorerKeepsFocus = true")  # the page's own copy does nothing
    app.open(MLP, recipe=Recipe().prune("fc1.weight", threshold=0.02))
    button(app, "Clear layer").focus()
    app.page.evaluate("window.explorerKeepsFocus = false")
    app.page.evaluate(source("focus.js"))
    enter(app, "Clear layer")
    expect(button(app, "as they are")).to_be_focused()


def test_the_focus_of_a_mouse_goes_nowhere(app: App) -> None:
    app.open(MLP, recipe=Recipe().prune("fc1.weight", threshold=0.02))
    with app.step():
        app.press("Reset")
    expect(button(app, "Reset")).to_be_disabled()
    expect(button(app, "Undo")).to_be_enabled()
    app.ready()
    expect(app.page.locator("button:focus-visible")).to_have_count(0)
