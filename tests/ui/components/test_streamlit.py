"""The components as Streamlit runs them: state, triggers, fragments, theme."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import START_SECONDS, free_port, healthy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The URL of the smallest app around both components."""
    port = free_port()
    url, script = f"http://127.0.0.1:{port}", Path(__file__).with_name("app.py")
    options = [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true", "--server.fileWatcherType=none"]
    process = subprocess.Popen([sys.executable, "-m", "streamlit", "run", str(script), *options])
    try:
        end = time.monotonic() + START_SECONDS
        while not healthy(url):
            assert process.poll() is None and time.monotonic() < end, "the app did not start"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture
def opened(browser: Browser, app: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 700}, color_scheme="light")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(app)
    page.get_by_role("slider", name="label").wait_for(timeout=30_000)
    page.locator("#strip").wait_for()
    yield page
    context.close()
    assert not errors


def test_a_drag_reaches_python_before_release_and_its_figures_agree(opened: Page) -> None:
    from playwright.sync_api import expect

    slider, heard = opened.get_by_role("slider", name="label"), opened.locator("p#handle")
    box = slider.bounding_box()
    x, y = box["x"] + 13, box["y"] + 60
    opened.mouse.move(x, y)
    opened.mouse.down()
    opened.mouse.move(x + 60, y, steps=12)
    expect(heard).to_contain_text("final=False")
    opened.mouse.move(x + 90, y, steps=12)
    opened.mouse.up()
    expect(heard).to_contain_text("final=True")
    heard_t = float(re.search(r" t=([\d.]+)", heard.inner_text())[1])
    assert heard_t == pytest.approx(float(slider.get_attribute("aria-valuenow")), abs=2e-5)
    exact = float(re.search(r"sparsity=([\d.]+)", heard.inner_text())[1])
    client = float(re.search(r"([\d.]+) %", slider.get_attribute("aria-valuetext"))[1]) / 100
    assert 0.3 < exact < 1 and client == pytest.approx(exact, abs=0.002)
    expect(opened.locator(".thr .read")).to_contain_text("1.23 kB")  # Python's figures, no longer the estimate
    assert "≈" not in opened.locator(".thr .read").inner_text()
    left = opened.locator('[data-layer="fc1.weight"] .fill').evaluate("(e) => parseFloat(e.style.height) / 100")
    assert left == pytest.approx(1 - exact, abs=0.002)


def test_the_strip_selects_and_locks(opened: Page) -> None:
    from playwright.sync_api import expect

    said = opened.locator("p#strip")
    opened.get_by_role("option").nth(1).click()
    expect(said).to_contain_text("selected=fc2.weight")
    expect(opened.get_by_role("option").nth(1)).to_have_attribute("aria-selected", "true")
    opened.keyboard.press("ArrowRight")
    expect(said).to_contain_text("selected=fc3.weight")
    opened.keyboard.press("l")
    expect(said).to_contain_text("locked=fc3.weight")
    expect(opened.get_by_role("option").nth(2)).to_have_class(re.compile("locked"))


def test_both_follow_the_theme(opened: Page) -> None:
    from playwright.sync_api import expect

    for name in (".thr", ".ovw"):
        expect(opened.locator(name)).not_to_have_class(re.compile("dark"))
    opened.emulate_media(color_scheme="dark")
    for name in (".thr", ".ovw"):
        expect(opened.locator(name)).to_have_class(re.compile("dark"))
