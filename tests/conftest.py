"""Fixtures of all tests: devices, seeds, and a browser beside a running app."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT / "tests", ROOT):  # tests may be started from any folder and by any of pytest's front ends
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

from browser import ADVICE, CHROMIUM_ARGS, find_browser  # noqa: E402
from explorer.models.trace import forget_missing  # noqa: E402

if "PYTEST_XDIST_WORKER" in os.environ:  # three workers on two cores (browsers wait much): threads of theirs would only be in the way
    torch.set_num_threads(1)

START_SECONDS = 90  # a cold start imports torch on a slow disk
LOCAL = ("data", "blob", "about")  # schemes of URLs that ask no host


def devices() -> list[str]:
    """The CPU and every accelerator that this torch can use; EXPLORER_TEST_DEVICES=cuda,mps: these instead."""
    if chosen := os.environ.get("EXPLORER_TEST_DEVICES"):
        return chosen.split(",")
    more = [
        name
        for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if there
    ]
    return ["cpu", *more]


@pytest.fixture(scope="session", params=devices())
def device(request: pytest.FixtureRequest) -> str:
    """Every device there is, one test run each: modules, subjects and tensors of a test lie there."""
    return str(request.param)


@pytest.fixture(autouse=True, scope="session")
def full_precision() -> None:
    """What a test computes itself on a GPU is float32, too, and not TF32."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers in every test, whatever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def traces() -> None:
    """torch.fx can trace, whatever files were written before, which leave names in it that it does not find."""
    forget_missing()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that drive a browser come first, and so in one process, with one server: while they wait, the others compute."""
    items.sort(key=lambda item: "browser" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser; without one the test is skipped, in CI it fails. Replaces pytest-playwright's."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(ADVICE, pytrace=False)
        pytest.skip(ADVICE)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield running
        running.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def healthy(url: str) -> bool:
    """Whether the app answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know this machine's ports
    try:
        with direct.open(f"{url}/_stcore/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the app, started with the README's command; its log is printed when a test fails."""
    failed, folder = request.session.testsfailed, tmp_path_factory.mktemp("server")
    with serving(folder) as url:
        yield url
    if request.session.testsfailed > failed:
        print(f"\n--- the app's log ---\n{text_of(folder / 'log.txt')}")


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The URL of an app of its own, started with ``arguments``; its log and its jobs lie in ``folder``."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "log.txt"
    options = {"port": port, "address": "127.0.0.1", "headless": "true", "fileWatcherType": "none"}
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app.py",
        *(f"--server.{key}={value}" for key, value in options.items()),
        *(["--", *arguments] if arguments else []),
    ]
    with log.open("wb") as output:
        environment = os.environ | {"EXPLORER_HOME": str(folder / "home")}  # and nobody's of this machine
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_SECONDS
        while not healthy(url):
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"the app did not start: {' '.join(command)}\n{text_of(log)}", pytrace=False)
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def text_of(log: Path, last: int = 20_000) -> str:
    """The end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-last:]


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A page of its own session, which must neither raise an error nor call another host. Replaces pytest-playwright's."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US", color_scheme="light")
    opened = context.new_page()
    errors: list[str] = []
    strangers: list[str] = []
    host = urlsplit(server).netloc

    def seen(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in LOCAL and parts.netloc != host:
            strangers.append(request.url)

    opened.on("pageerror", lambda error: errors.append(str(error)))
    context.on("request", seen)
    opened.on("websocket", lambda socket: None if urlsplit(socket.url).netloc == host else strangers.append(socket.url))
    yield opened
    context.close()
    assert not strangers, f"requests that leave the host: {strangers}"
    assert not errors, f"uncaught errors in the page: {errors}"
