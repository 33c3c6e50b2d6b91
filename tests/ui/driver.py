"""A hand on the running app: what a person does, and what stands on the screen."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import expect

import explorer
from explorer.core.recipe import Recipe
from explorer.core.report import Report
from explorer.ui import format as fmt
from explorer.ui.state import pack, unpack

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SLOW = 60_000  # ms: a first look at a model loads it
LENET, MLP = "fashion-lenet5", "fashion-mlp"  # the default; the one that is evaluated fastest


VIEWS = {"Layers": "Network", "Weights": "Network", "Graph": "Network", "Criteria": "Studies", "Sensitivity": "Studies", "Sparsity × bits": "Studies"}


class App:
    """The page Explore in one tab."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, model: str = "", layer: str = "", recipe: Recipe | None = None, **query: str) -> App:
        """Go there, by a link if anything is named, and wait for the figures."""
        named = {"model": model, "layer": layer, "r": pack(recipe) if recipe else ""} | query
        asked = urlencode({key: value for key, value in named.items() if value})
        self.page.goto(f"{self.url}/?{asked}" if asked else self.url)
        return self.ready()

    def ready(self) -> App:
        """Every sample was seen, and the page is not being drawn."""
        expect(self.page.locator(".x-board")).to_have_attribute("data-complete", "true", timeout=SLOW)
        drawn = self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(drawn).to_have_count(1, timeout=SLOW)
        expect(self.slider).to_have_count(1, timeout=SLOW)  # until it is drawn, the layer before may stand there, too
        expect(self.slider.first).to_be_visible(timeout=SLOW)
        expect(drawn).to_have_count(1, timeout=SLOW)
        self.page.wait_for_function("window.explorerKeepsFocus", timeout=SLOW)  # a component's script may come after the page's last figure
        return self

    # What stands there

    @property
    def slider(self) -> Locator:
        return self.page.get_by_role("slider", name="Pruning threshold")

    @property
    def factor(self) -> Locator:
        return self.page.get_by_role("slider", name="Attenuation factor")

    @property
    def read(self) -> Locator:
        """The line under the histogram."""
        return self.page.locator(".thr .read")

    @property
    def alerts(self) -> Locator:
        return self.page.get_by_test_id("stAlertContentError")

    def card(self, term: str) -> Locator:
        return self.page.locator(f'.x-card[data-figure="{term}"] .x-value')

    def note(self, term: str) -> Locator:
        return self.page.locator(f'.x-card[data-figure="{term}"] .x-note')

    def layer(self, name: str) -> Locator:
        return self.page.locator(f'[data-layer="{name}"]')

    def left(self, name: str) -> float:
        """What the strip says is left of a layer, in percent."""
        return float(self.layer(name).locator(".fill").evaluate("(e) => parseFloat(e.style.height)"))

    def figures(self) -> dict[str, str]:
        """The board as it reads now."""
        return {e.get_attribute("data-figure") or "": e.locator(".x-value").inner_text() for e in self.page.locator(".x-card").all()}

    @property
    def link(self) -> str:
        return (parse_qs(urlsplit(self.page.url).query).get("r") or [""])[0]

    @property
    def recipe(self) -> Recipe:
        """The recipe in the address bar."""
        return unpack(self.link) if self.link else Recipe()

    def shows(self, model: str, recipe: Recipe | None = None) -> Report:
        """The board shows what the package computes for the recipe (the one in the address, if none is given)."""
        report = explorer.evaluate(explorer.load(model), self.recipe if recipe is None else recipe)
        for term, text in expected(report).items():
            expect(self.card(term)).to_have_text(text, timeout=SLOW)
        expect(self.page.locator(".x-board")).to_have_attribute("data-complete", "true")
        return report

    def healthy(self) -> None:
        """Neither an exception nor an error message is on the screen."""
        expect(self.page.get_by_test_id("stException")).to_have_count(0)
        expect(self.alerts).to_have_count(0)

    # What a person does

    @contextmanager
    def step(self) -> Iterator[None]:
        """What is done inside becomes one step: the address changes, the figures settle."""
        before = self.page.url
        yield
        end = time.monotonic() + 20
        while self.page.url == before:
            assert time.monotonic() < end, f"no step was made: still {before}"
            self.page.wait_for_timeout(30)
        self.ready()

    def grab(self, handle: Locator | None = None) -> tuple[float, float]:
        """Press the mouse on a handle; where."""
        grip = handle or self.slider
        grip.scroll_into_view_if_needed()
        box = grip.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + min(60, box["height"] / 2)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        return x, y

    def drag(self, dx: float, dy: float = 0, handle: Locator | None = None) -> None:
        """A whole gesture, as one step."""
        with self.step():
            x, y = self.grab(handle)
            self.page.mouse.move(x + dx, y + dy, steps=8)
            self.page.mouse.up()

    def choose(self, group: str, option: str) -> None:
        """Click one of a row of buttons."""
        self.page.get_by_role("radiogroup", name=group, exact=True).get_by_role("radio", name=option, exact=True).click()

    def press(self, name: str) -> None:
        """Click a button."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def select(self, layer: str) -> None:
        """Click a layer in the strip and wait for its histogram."""
        self.layer(layer).click()
        expect(self.page.locator(".x-head b")).to_have_text(layer)
        self.ready()

    def tab(self, name: str) -> Locator:
        """Open a tab, or a view within one; the tab's panel."""
        if name in VIEWS:
            panel = self.tab(VIEWS[name])
            if panel.get_by_role("radiogroup", name="Show", exact=True).get_by_role("radio", name=name, exact=True).is_checked():
                return panel
            self.choose("Show", name)
            return panel
        tab = self.page.get_by_role("tab", name=name, exact=True)
        tab.click()
        try:
            expect(tab).to_have_attribute("aria-selected", "true", timeout=8000)
        except AssertionError:  # Streamlit may lose a click that meets the end of another run
            tab.click()
        panel = self.page.get_by_role("tabpanel", name=name, exact=True)
        expect(panel).to_be_visible(timeout=SLOW)
        return panel


def expected(report: Report) -> dict[str, str]:
    """The board's texts for a report."""
    counts = report.counts
    figures = {report.main: fmt.metric(report.main, report.figures[report.main].value)}
    if "loss" in report.figures:
        figures["loss"] = fmt.metric("loss", report.figures["loss"].value)
    return figures | {
        "size": fmt.size(counts.bytes),
        "macs": "–" if counts.macs is None else fmt.count(counts.macs),
        "sparsity": fmt.percent(counts.sparsity),
    }


def number(text: str) -> float:
    """The first number in a text."""
    found = re.search(r"[\d,]*\.?\d+", text)
    assert found, text
    return float(found[0].replace(",", ""))
