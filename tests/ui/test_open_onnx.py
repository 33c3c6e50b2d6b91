"""A person opens an ONNX file and data of their own, drags, looks at the graph, exports, and runs the result elsewhere."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from playwright.sync_api import expect

import explorer
from explorer.ui import format as fmt
from tests.files import onnx_files
from tests.ui.driver import SLOW, App

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sent")
    subject = explorer.load("fashion-mlp")
    onnx_files.saved(onnx_files.written(subject.module, subject.example(3).cpu(), 17), folder / "mine.onnx")
    x, y = subject.task.batch("validation", range(200))
    np.savez(folder / "data.npz", x=x.numpy(), y=y.numpy())
    model = onnx.load(folder / "mine.onnx")
    model.graph.node[0].domain = "somebody"
    onnx_files.saved(model, folder / "custom.onnx")
    return folder


@pytest.mark.browser
def test_an_onnx_file_from_upload_to_onnx_runtime(page: Page, server: str, sent: Path) -> None:
    app = App(page, server).open("bikes-mlp")

    def send(key: str, name: str) -> None:
        page.locator(f".st-key-{key} input[type=file]").set_input_files(sent / name)

    page.get_by_role("button", name="Open…").click()
    send("open-model", "custom.onnx")
    expect(app.alerts).to_contain_text("is not one of ONNX's own", timeout=SLOW)
    send("open-model", "mine.onnx")
    page.locator(".st-key-open-data").wait_for(timeout=SLOW)
    send("open-data", "data.npz")
    expect(page.get_by_text("The original: Accuracy")).to_be_visible(timeout=SLOW)
    share = page.get_by_label("Validation share")
    share.fill("0.5")
    share.press("Enter")
    expect(page.get_by_text("100 samples of validation")).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name="Open it").click()
    expect(app.note("accuracy")).to_contain_text("validation, n = 100", timeout=SLOW)
    app.ready()
    app.drag(80)
    app.healthy()
    assert app.recipe.rules

    panel = app.tab("Graph")
    frames = panel.locator("iframe")
    expect(frames).to_have_count(2, timeout=SLOW)
    for i in (0, 1):  # the file's own nodes, before and after
        expect(frames.nth(i).content_frame.locator("g.node", has_text="Gemm").first).to_be_visible(timeout=SLOW)
    app.healthy()

    panel = app.tab("Export")
    panel.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download(timeout=SLOW) as download:
        panel.get_by_role("button", name="Download all").click(timeout=SLOW)
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        name = next(one for one in archive.namelist() if one.endswith("model.onnx"))
        data = archive.read(name)
    session = onnxruntime.InferenceSession(data)
    subject = explorer.load(sent / "mine.onnx")
    x = torch.from_numpy(np.load(sent / "data.npz")["x"])
    expected = explorer.compress(subject, app.recipe)(x)
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    assert (found - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))
    zeros = {
        one.name: int((onnx.numpy_helper.to_array(one) == 0).sum())
        for one in onnx.load_from_string(data).graph.initializer
    }
    assert sum(zeros.values()) > 1000
    share_cut = explorer.resolve(subject, app.recipe).masks
    total = sum(layer.numel for layer in subject.layers)
    cut = sum(int((~mask).sum()) for mask in share_cut.values())
    expect(app.card("sparsity")).to_have_text(fmt.percent(cut / total))
