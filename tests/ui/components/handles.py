"""What the tests of the threshold share: its events, its handles, and a pause until it has painted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def events(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("host.events.map((e) => e[1])")


def slider(page: Page, name: str = "Pruning threshold") -> Locator:
    return page.get_by_role("slider", name=name)


def value(page: Page) -> float:
    return float(slider(page).get_attribute("aria-valuenow"))


def grab(page: Page, name: str = "Pruning threshold") -> tuple[float, float]:
    box = slider(page, name).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + (box["height"] / 2 if "factor" in name else 60)
    page.mouse.move(x, y)
    page.mouse.down()
    return x, y


def until(page: Page, condition: str) -> None:
    page.wait_for_function(condition, timeout=5000)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # painted
