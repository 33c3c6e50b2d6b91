"""Uploads: nothing of them stays, names are never paths, and a person sees the model that was sent."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from playwright.sync_api import expect
from safetensors.torch import save_file

import explorer
from explorer.core.errors import LoadError, TaskError
from explorer.export.exporters import registry
from explorer.files.data import read_upload
from explorer.files.load import load_upload
from explorer.ui import models, uploads
from explorer.ui.panels import data_form
from explorer.ui.panels.card import rows, tier
from tests.contract.nets import tiny
from tests.files import hostile
from tests.ui.driver import SLOW, App

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.parametrize(
    ("name", "kept"),
    [("model.pt2", "model.pt2"), ("../../etc/passwd", "passwd"), ("C:\\x\\evil.pt", "evil.pt"), ("模型 a.pt", "模型_a.pt"), ("..", "file"),
     ("", "file"), ("/", "file"), (".bashrc", "bashrc"), ("a\0b\n.npz", "a_b_.npz"), ("x" * 500 + ".zip", "x" * 76 + ".zip")],
)  # fmt: skip
def test_names_are_never_paths(name: str, kept: str) -> None:
    assert uploads.safe(name) == kept


def test_the_folder_is_gone_and_the_model_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    weights = {"fc.weight": torch.randn(5, 4)}
    received = uploads.receive("../my.pt", hostile.torch_zip(weights), load_upload)
    assert received.error is None and received.name == "my.pt" and len(received.digest) == 64
    assert torch.equal(received.value.weight("fc.weight"), weights["fc.weight"]) and not list(tmp_path.iterdir())
    refused = uploads.receive("my.pt", hostile.torch_zip({"a": hostile.Runs(exec, hostile.CODE)}), load_upload)
    assert (
        "builtins.exec" in str(refused.error)
        and str(tmp_path) not in str(refused.error)
        and "save_model" in refused.error.lines
    )
    assert not list(tmp_path.iterdir())
    broken = uploads.receive("data.npz", b"PK\x03\x04nothing", read_upload)
    assert str(broken.error).startswith("data.npz: ") and str(tmp_path) not in str(broken.error)


def test_folders_of_uploads_are_said_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = hostile.zipped({"m/config.json": b"[" * 200 + b"]" * 200, "m/model.safetensors": b"x"})
    refused = uploads.receive("my.zip", deep, load_upload)
    assert "my.zip" in str(refused.error) and "nested too deeply" in str(refused.error) and str(tmp_path) not in str(refused.error)


def test_a_session_keeps_its_own_models_and_not_too_many(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    first, second = {}, {}
    monkeypatch.setattr(models, "PATIENCE", 1e9)  # no bar, however slow the machine
    monkeypatch.setattr(models, "st", SimpleNamespace(session_state=first, spinner=lambda *_, **__: nullcontext()))
    names = [models.keep(tiny(device=device)) for _ in range(6)]
    assert names == ["tiny", "tiny 2", "tiny 3", "tiny 4", "tiny 5", "tiny 6"] and models.choices()[:6] == tuple(names)
    assert models.open_subject("tiny 2") is first[models.OWN]["tiny 2"]
    uploads.trim(first[models.OWN], "tiny")
    assert list(first[models.OWN]) == ["tiny", "tiny 4", "tiny 5", "tiny 6"]
    monkeypatch.setattr(models, "st", SimpleNamespace(session_state=second, spinner=lambda *_, **__: nullcontext()))
    assert "tiny" not in models.choices()
    with pytest.raises(LoadError):
        models.open_subject("tiny 4")
    sample = tiny(device=device)
    sample.name = "bikes-mlp"
    assert models.keep(sample) == "bikes-mlp 2" and models.open_subject("bikes-mlp") is explorer.load("bikes-mlp")


@pytest.mark.parametrize(
    ("text", "found"), [("1/255", (1 / 255,)), ("0.5, .25 1e-3", (0.5, 0.25, 0.001)), ("(0.5，0.5)", (0.5, 0.5))]
)
def test_numbers_of_a_field(text: str, found: tuple[float, ...]) -> None:
    assert data_form.numbers(text) == pytest.approx(found)


def test_shapes_of_a_field() -> None:
    assert data_form.numbers("3 × 32 x 32", whole=True) == (3, 32, 32) and data_form.numbers("", whole=True) == ()
    for text in ("a", "1/0", ""):
        with pytest.raises(TaskError):
            data_form.numbers(text)
    for text in ("0", "-1", "1.5", "1e9"):
        with pytest.raises(TaskError, match="whole numbers"):
            data_form.numbers(text, whole=True)


def test_the_card_says_what_can_be_removed_and_why_not() -> None:
    table = rows(explorer.load("fashion-lenet5"))
    removable, why = list(table.values())[3:]
    assert removable == [20, 50, 500, 0] and why[:3] == ["", "", ""] and why[3]
    assert "validation" in tier(explorer.load("fashion-lenet5"))
    assert tier(explorer.Subject(torch.nn.Linear(2, 2), explorer.Task.weights_only())) == "none: weights only"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sent")
    subject = explorer.load("fashion-mlp")
    registry["pt2"]().write(subject, explorer.resolve(subject, explorer.Recipe()), subject.module, folder)
    x, y = subject.task.batch("validation", range(200))
    np.savez(folder / "data.npz", x=x.numpy(), y=y.numpy())
    torch.save(subject.module.state_dict(), folder / "weights.pth")
    torch.save(subject.module, folder / "whole.pt")
    return folder


@pytest.mark.browser
def test_a_person_opens_files_in_the_app(page: Page, server: str, files: Path) -> None:
    app = App(page, server).open("bikes-mlp")

    def send(key: str, name: str) -> None:
        page.locator(f".st-key-{key} input[type=file]").set_input_files(files / name)

    page.get_by_role("button", name="Open…").click()
    send("open-model", "whole.pt")
    expect(app.alerts).to_contain_text("sample_models.fashion_mlp", timeout=SLOW)
    expect(page.get_by_test_id("stDialog")).to_contain_text("save_model")
    send("open-model", "weights.pth")
    expect(page.get_by_text("Weights only: histograms")).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name="Open it").click()
    expect(page.locator(".x-strip")).to_contain_text("weights.pth holds weights only", timeout=SLOW)
    app.ready()
    app.drag(80)
    expect(app.card("sparsity")).not_to_have_text("0.0 %")
    app.healthy()
    panel = app.tab("Export")
    panel.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        panel.get_by_role("button", name="Download").click()
    again = explorer.load(download.value.path())
    assert any(bool((again.weight(layer.name) == 0).any()) for layer in again.layers)

    page.get_by_role("button", name="Open…").click()
    send("open-model", "model.pt2")
    page.locator(".st-key-open-data").wait_for(timeout=SLOW)
    send("open-data", "data.npz")
    expect(page.get_by_text("The original: Accuracy")).to_be_visible(timeout=SLOW)
    expect(page.locator(".x-tiles .x-tile")).to_have_count(10)
    page.get_by_role("button", name="Open it").click()
    expect(app.note("accuracy")).to_contain_text("validation, n = 40", timeout=SLOW)
    app.ready()
    expect(app.card("accuracy")).to_have_text(expected_accuracy(files))
    app.healthy()


def expected_accuracy(files: Path) -> str:
    """The board's accuracy of the program on the 40 validation samples of the file."""
    from explorer.files.data import read_data
    from explorer.files.limits import OWN
    from explorer.files.mapping import task_of
    from explorer.files.propose import propose
    from explorer.ui import format as fmt

    source = read_data(files / "data.npz", OWN)
    report = explorer.evaluate(explorer.load(files / "model.pt2", task_of(source, propose(source))))
    return fmt.metric("accuracy", report.metrics["accuracy"])


def test_a_path_of_this_machine_is_mapped_and_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "st", SimpleNamespace(session_state={}))
    path = tmp_path / "模型.safetensors"
    save_file({"fc.weight": torch.randn(50, 40)}, path)
    first = uploads.at_path(f' "{path}" ')
    assert first.value.weight("fc.weight").shape == (50, 40) and len(first.digest) == 64 and first.name == path.name
    assert uploads.at_path(str(path)) is first and uploads.at_path(str(path), "other") is not first
    save_file({"fc.weight": torch.randn(5, 4)}, path)
    assert uploads.at_path(str(path)).value.weight("fc.weight").shape == (5, 4)
    assert "no such file" in str(uploads.at_path(str(tmp_path / "b.safetensors")).error)
    monkeypatch.setattr("explorer.files.load.HASHED", 10)
    told: list[int] = []
    large = uploads.at_path(str(path), "third", lambda done, total: told.append(done))
    assert large.error is None and large.digest == ""
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    assert "shared server" in str(uploads.at_path(str(path), "fourth").error)


def test_a_shared_server_bounds_what_a_session_has_open(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    own = {name: tiny(device=device) for name in ("a", "b", "c")}
    for one in own.values():
        one.card["bytes"] = 200 << 20
    uploads.trim(own, "a")
    assert list(own) == ["a", "b", "c"]
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    uploads.trim(own, "a")
    assert list(own) == ["a", "c"]


def test_quantization_errors_of_all_widths(device: str) -> None:
    from explorer.ui.panels import rounding

    subject = tiny(device=device)
    told: list[tuple[int, int]] = []
    rows = list(rounding.losses(subject, "minmax", "channel", lambda *one: told.append(one), lambda: False))
    assert [row["layer"] for row in rows] == [layer.name for layer in subject.layers] and told[-1][0] == told[-1][1]
    for row in rows:
        recipe = explorer.Recipe().quantize(row["layer"], bits=4, granularity="channel")
        assert row["4"] == explorer.quantization_error(subject, recipe)["sqnr_db"].item()
        assert row["8"] > row["4"] > row["2"]
    with pytest.raises(explorer.Cancelled):
        list(rounding.losses(subject, "minmax", "tensor", lambda *_: None, lambda: True))


@pytest.mark.browser
def test_a_checkpoint_by_its_path_dragged_rounded_and_compared(page: Page, server: str, files: Path) -> None:
    weights = {name: tensor.clone() for name, tensor in explorer.load("fashion-mlp").module.state_dict().items()}
    save_file(weights | {"odd.weight": torch.full((3, 4), torch.nan)}, files / "a.safetensors")
    save_file({name: t * 1.5 if name == "fc1.weight" else t for name, t in weights.items()}, files / "b.safetensors")
    app = App(page, server).open("bikes-mlp")
    page.get_by_role("button", name="Open…").click()
    expect(page.get_by_text("Up to 200 MB by upload")).to_be_visible(timeout=SLOW)
    page.locator(".st-key-open-path input").fill(str(files / "a.safetensors"))
    page.locator(".st-key-open-path input").press("Enter")
    page.get_by_role("button", name="Open it").click(timeout=SLOW)
    expect(page.locator(".x-strip")).to_contain_text("a.safetensors holds weights only", timeout=SLOW)
    app.ready()
    expect(page.get_by_text("Weights only: histograms")).to_be_visible()
    app.layer("odd.weight").click()
    expect(app.alerts).to_contain_text("odd.weight: its scores hold NaN", timeout=SLOW)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    app.select("fc1.weight")  # every other layer is there as before
    app.drag(80)
    expect(app.card("sparsity")).not_to_have_text("0.0 %")
    panel = app.tab("Quantization error")
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_test_id("stDataFrame")).to_be_visible(timeout=SLOW)
    panel = app.tab("Compare with a file")
    panel.locator(".st-key-other-path input").fill(str(files / "b.safetensors"))
    panel.locator(".st-key-other-path input").press("Enter")
    expect(panel.get_by_text("5 equal · 1 changed")).to_be_visible(timeout=SLOW)
    app.healthy()
