"""Wrong files, sent one after the other: each is refused by one message, and nothing is lost."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from explorer.core.recipe import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
pytest.importorskip("playwright")

from playwright.sync_api import expect  # noqa: E402

from tests.ui.driver import MLP, SLOW, App  # noqa: E402


def test_wrong_files_are_refused_and_nothing_is_lost(page: Page, server: str, tmp_path: Path) -> None:
    wrong = {
        "text.pt": "it is of no known format", "empty.zip": "the zip is empty", "cut.onnx": "it is cut short", "numbers.pt": "found: epochs",
        "broken.pt": "the zip is damaged or cut short",
    }  # fmt: skip
    (tmp_path / "text.pt").write_bytes(b"a few lines of text\n" * 9)
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x08\x12\x07pyto")
    torch.save({"epochs": 12}, tmp_path / "numbers.pt")
    (tmp_path / "broken.pt").write_bytes((tmp_path / "numbers.pt").read_bytes()[:200])
    recipe = Recipe().prune("fc1.weight", threshold=0.02)
    app = App(page, server).open(MLP, recipe=recipe)
    before = app.figures()
    app.press("Open…")
    dialog = page.get_by_test_id("stDialog")
    for name, why in wrong.items():
        dialog.locator(".st-key-open-model input[type=file]").set_input_files(tmp_path / name)
        said = dialog.get_by_test_id("stAlertContentError")
        expect(said).to_contain_text(f"{name}: ", timeout=SLOW)
        expect(said).to_have_count(1)
        assert why in said.inner_text() and "accepted: " in said.inner_text() and "/tmp" not in said.inner_text()
        expect(dialog.get_by_role("button", name="Open it")).to_have_count(0)
        expect(dialog.get_by_test_id("stCode")).to_have_count(int(name == "text.pt"))  # the lines that convert it
        assert said.inner_text().endswith(":") == (name == "text.pt")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    app.ready()
    assert app.recipe == recipe and app.figures() == before
    app.healthy()
