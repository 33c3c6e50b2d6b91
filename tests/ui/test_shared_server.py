"""A server for strangers: what hostile files cost their sender and nobody else, and what of one session another can see."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import expect

import explorer
from explorer.export.exporters import registry
from tests.conftest import serving
from tests.files import hostile, hostile_onnx, onnx_files
from tests.ui.driver import SLOW, App

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sent")
    pickle = hostile.torch_zip(Touch(folder / "canary"))
    for name in ("evil.pt", "evil.onnx", "evil.safetensors", "evil.npz"):
        (folder / name).write_bytes(pickle)
    (folder / "loop.onnx").write_bytes(hostile_onnx.loop())
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 400)
    subject = explorer.load("fashion-mlp")
    registry["pt2"]().write(subject, explorer.resolve(subject, explorer.Recipe()), subject.module, folder)
    onnx_files.saved(onnx_files.written(subject.module, subject.example(3).cpu(), 17), folder / "mine.onnx")
    x, y = subject.task.batch("validation", range(100))
    np.savez(folder / "data.npz", x=x.numpy(), y=y.numpy())
    return folder


@pytest.fixture
def tabs(browser: Browser, tmp_path: Path) -> Iterator[tuple[App, App]]:
    """Two people's."""
    with serving(tmp_path, "--shared") as url:
        contexts = [browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US") for _ in range(2)]
        yield App(contexts[0].new_page(), url), App(contexts[1].new_page(), url)
        for context in contexts:
            context.close()


def send(page: Page, key: str, file: Path) -> None:
    page.locator(f".st-key-{key} input[type=file]").set_input_files(file)


def test_hostile_files_cost_their_sender_a_message_and_nobody_else_anything(tabs: tuple[App, App], sent: Path) -> None:
    app, neighbour = tabs
    neighbour.open("bikes-mlp")
    page = app.open("bikes-mlp").page
    page.get_by_role("button", name="Open…").click()
    page.locator(".st-key-open-model").wait_for(timeout=SLOW)
    expect(page.get_by_test_id("stDialog")).to_contain_text("seen by this session alone")
    expect(page.get_by_label("or its path on this machine")).to_have_count(0)
    refusals = {
        "evil.pt": "posix.system", "evil.onnx": "posix.system", "evil.safetensors": "posix.system", "loop.onnx": "on a shared server it is not run",
        "noise.bin": "it is of no known format", "model.pt2": "torch.export programs are not opened on a shared server",
    }  # fmt: skip
    for name, why in refusals.items():
        send(page, "open-model", sent / name)
        expect(app.alerts).to_have_count(1, timeout=SLOW)
        expect(app.alerts).to_contain_text(re.compile(f"{re.escape(name)}.*{re.escape(why)}"), timeout=SLOW)
    send(page, "open-model", sent / "mine.onnx")
    page.locator(".st-key-open-data").wait_for(timeout=SLOW)
    send(page, "open-data", sent / "evil.npz")
    expect(app.alerts).to_contain_text("evil.npz", timeout=SLOW)
    send(page, "open-data", sent / "data.npz")
    expect(page.get_by_text("The original: Accuracy")).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name="Open it").click()
    expect(app.card("size")).to_contain_text("MB", timeout=SLOW)
    app.ready()
    app.drag(60)
    app.healthy()
    assert app.recipe.rules and not (sent / "canary").exists()

    neighbour.drag(40)  # was there all the time, and is well
    neighbour.healthy()
    neighbour.page.goto(page.url)
    expect(neighbour.page.get_by_text("Open the file again: the link's recipe waits for it.")).to_be_visible(timeout=SLOW)
    neighbour.ready()
    expect(neighbour.page.locator(".x-head, body").first).not_to_contain_text("mine.onnx")
