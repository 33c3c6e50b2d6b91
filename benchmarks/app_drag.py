"""From a pointer move to the new metric in the page: median and 95th percentile over 50 moves, for each sample model.

    python benchmarks/app_drag.py [--samples a,b] [--moves 50] [--url http://...]

Starts the app on a free port of its own, opens each sample in a headless browser, holds the handle of the largest layer
and moves it. The page itself takes the times (performance.now()): a listener stamps the pointer event, a MutationObserver
the first change of the board after it, so neither the driver nor its protocol is measured. A move is made once the one
before it was answered: this is the latency of an answer, not the rate of a queue.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser import ADVICE, CHROMIUM_ARGS, find_browser  # noqa: E402
from tests.conftest import free_port, healthy  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

WATCH = """() => {
    window.times = []; window.pressed = 0;
    document.addEventListener("pointermove", (e) => { if (e.buttons && !window.pressed) window.pressed = performance.now(); }, true);
    const text = () => document.querySelector(".x-board")?.innerText ?? "";
    let before = text();
    new MutationObserver(() => {
        const now = text();
        if (!now || now === before) return;
        before = now;
        if (window.pressed) { window.times.push(performance.now() - window.pressed); window.pressed = 0; }
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def measure(page: Page, url: str, sample: str, moves: int) -> tuple[list[float], float, int]:
    """(milliseconds of each answered move, seconds until the figures settled after release, moves without an answer)."""
    page.goto(f"{url}/?model={sample}")
    page.locator('.x-board[data-complete="true"]').wait_for(timeout=300_000)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for(timeout=300_000)
    page.wait_for_timeout(500)
    page.evaluate(WATCH)
    box = page.get_by_role("slider", name="Pruning threshold").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 60
    page.mouse.move(x, y)
    page.mouse.down()
    lost = 0
    for i in range(1, moves + 1):
        page.mouse.move(x + 10 + 2.5 * i, y)
        try:
            page.wait_for_function("(n) => window.times.length >= n", arg=i - lost, timeout=3_000)
        except Exception:  # the figures happened to read the same
            lost += 1
            page.evaluate("window.pressed = 0")
    times = page.evaluate("window.times")
    began = time.perf_counter()
    page.mouse.up()
    page.wait_for_timeout(100)
    page.locator('.x-board[data-complete="true"]').wait_for(timeout=300_000)
    return times, time.perf_counter() - began, lost


def row(sample: str, times: list[float], settled: float, lost: int) -> str:
    """A line of the table."""
    ordered = sorted(times)
    p95 = ordered[round(0.95 * (len(ordered) - 1))] if ordered else float("nan")
    median = statistics.median(ordered) if ordered else float("nan")
    return f"{sample:16} {len(ordered):>6} {lost:>5} {median:>10.0f} {p95:>9.0f} {max(ordered, default=0):>9.0f} {settled:>10.1f}"


def main() -> None:
    import explorer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default=",".join(explorer.samples()), help="names, separated by commas")
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--url", default="", help="a running app; without it one is started")
    given = parser.parse_args()
    path = find_browser()
    if path is None:
        sys.exit(ADVICE)
    from playwright.sync_api import sync_playwright

    process = None
    url = given.url
    if not url:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        options = ("--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1", "--server.fileWatcherType=none")
        process = subprocess.Popen([sys.executable, "-m", "streamlit", "run", "app.py", *options], cwd=ROOT, stdout=subprocess.DEVNULL)
        while not healthy(url):
            if process.poll() is not None:
                sys.exit("the app did not start")
            time.sleep(0.2)
    try:
        print(f"{'sample':16} {'moves':>6} {'same':>5} {'median ms':>10} {'p95 ms':>9} {'max ms':>9} {'settled s':>10}", flush=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
            for sample in given.samples.split(","):
                context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
                print(row(sample, *measure(context.new_page(), url, sample, given.moves)), flush=True)
                context.close()
            browser.close()
    finally:
        if process is not None:
            process.terminate()
            process.wait(15)


if __name__ == "__main__":
    main()
