"""The components in a plain page: no Streamlit, no server; files are answered by the browser's own interception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import explorer
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from explorer.ui.edits import Settings
from explorer.ui.panels import handle
from explorer.ui.state import Workspace
from tests.contract.nets import few

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

HERE = Path(__file__).parent
SOURCES = Path(explorer.__file__).parent / "ui" / "components"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
ORIGIN = "http://components.test"


def answer(route: Route) -> None:
    """A file of the harness or a component, from disk."""
    name = route.request.url.removeprefix(ORIGIN + "/")
    path = (HERE if name == "harness.html" else SOURCES) / name
    route.fulfill(body=path.read_text(encoding="utf-8"), content_type=TYPES[path.suffix])


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all of these tests: opening one takes longer than most of them."""
    context = browser.new_context(viewport={"width": 960, "height": 600})
    context.route(f"{ORIGIN}/**", answer)
    yield context.new_page()
    context.close()


@pytest.fixture
def plain(tab: Page) -> Iterator[Page]:
    """The harness page, loaded afresh; an uncaught error in it fails the test."""
    errors: list[str] = []

    def note(error: object) -> None:
        errors.append(str(error))

    tab.on("pageerror", note)
    tab.goto(f"{ORIGIN}/harness.html")
    tab.mouse.move(5, 5)
    tab.wait_for_function("window.ready")
    yield tab
    tab.mouse.up()
    tab.remove_listener("pageerror", note)
    assert not errors


@pytest.fixture
def mount(plain: Page) -> Callable[..., None]:
    """mount(component, data): draw it; ``host`` in the page then emulates what Streamlit does."""

    def run(name: str, data: dict[str, Any]) -> None:
        css = (SOURCES / f"{name}.css").read_text(encoding="utf-8")
        plain.evaluate("([name, data, css]) => mount(name, data, css)", [name, data, css])

    return run


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """shown(layer, settings, recipe): what the app would tell the threshold about a layer of LeNet-5."""
    monkeypatch.setattr("explorer.ui.i18n.language", lambda: "en")

    def make(layer: str = "fc1.weight", settings: Settings | None = None, recipe: Recipe | None = None, **more: Any) -> dict[str, Any]:
        subject, recipe = few("fashion-lenet5"), recipe or Recipe()
        plan = explorer.resolve(subject, recipe)
        space = Workspace("fashion-lenet5", **more)
        return handle.data(space, subject, subject.layer(layer), settings or Settings(), recipe, plan, counts(subject, plan), 0)

    return make
