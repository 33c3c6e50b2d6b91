"""Ways in from Python: options behind ``--``, registered subjects, and the app on a subject of this process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import explorer
from explorer.core.errors import LoadError
from explorer.files.limits import SHARED_VARIABLE, shared
from explorer.ui import models, options, server
from tests.conftest import ROOT, free_port, healthy
from tests.contract.nets import tiny

CODE = """
import torch, explorer
from torch import nn
def make():
    torch.manual_seed(0)
    return explorer.Subject(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), explorer.Task.agreement(torch.randn(50, 4)), name="of-mine")
made = make()
wrong = 5
def broken(): raise ValueError("no weights here")
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(models, "_registered", {})
    monkeypatch.setenv(SHARED_VARIABLE, "")
    yield


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_subjects.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_subjects", raising=False)
    return "my_subjects"


@pytest.mark.parametrize("name", ["make", "made"])
def test_a_function_or_a_subject_of_ones_own(module: str, name: str, device: str) -> None:
    options.read(["--subject", f"{module}:{name}"])
    assert models.choices()[0] == models.default() == "of-mine"
    report = explorer.evaluate(models.open_subject("of-mine"), device=device)
    assert report.metrics["agreement"] == 1


@pytest.mark.parametrize(
    ("place", "said"),
    [("my_subjects", "accepted: package.module:function"), ("my_subjects:wrong", "gives a int"), ("my_subjects:broken", "no weights here"),
     ("my_subjects:nothing", "nothing"), ("no_such_module:x", "no_such_module"), (":x", "accepted")],
)  # fmt: skip
def test_what_is_no_subject(module: str, place: str, said: str) -> None:
    with pytest.raises(LoadError, match=said):
        options.read([f"--subject={place}"])


def test_a_shared_server_runs_no_code_of_options(module: str) -> None:
    assert not shared()
    options.read(["--shared"])
    assert shared() and os.environ[SHARED_VARIABLE] == "1"
    with pytest.raises(LoadError, match="switched off"):
        options.read(["--subject", f"{module}:make"])
    assert module not in sys.modules


def test_unknown_options_end_the_program_with_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^error: unknown option '--subjekt'.*--subject package\.module:function"):
        options.apply(["--subjekt", "x"])


def test_samples_keep_their_names(device: str) -> None:
    subject = tiny(device=device)
    subject.name = "bikes-mlp"
    with pytest.raises(LoadError, match="another name"):
        models.register(subject)
    with pytest.raises(LoadError, match="explorer.Subject"):
        models.register(subject.module)  # type: ignore[arg-type]


def test_settings_of_the_app_on_a_subject() -> None:
    found = server.settings(8600, False)
    assert found["runner.postScriptGC"] is False and found["server.port"] == 8600 and found["server.headless"] is True
    assert found["server.address"] == "127.0.0.1" and found["theme.light.primaryColor"].startswith("#")


def test_open_app_serves_a_subject_of_the_process(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "run.py").write_text(
        CODE + f"\nexplorer.open_app(make(), port={port}, browser=False)\n", encoding="utf-8"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "run.py"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        end = time.monotonic() + 90
        while not healthy(f"http://127.0.0.1:{port}"):
            assert process.poll() is None and time.monotonic() < end, (
                process.stderr.read().decode()[-2000:] if process.poll() is not None else "slow"
            )
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(20)


def test_a_fresh_server_takes_no_page_for_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.runtime.pages_manager import PagesManager

    main = str(ROOT / "explorer" / "ui" / "main.py")
    monkeypatch.setattr(PagesManager, "uses_pages_directory", None)
    PagesManager(main)
    assert PagesManager.uses_pages_directory  # what Streamlit does by itself
    monkeypatch.setattr(PagesManager, "uses_pages_directory", None)
    server.without_pages_folder()
    PagesManager(main)
    assert not PagesManager.uses_pages_directory
