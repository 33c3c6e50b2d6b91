"""What is traced in threads that end leaves nothing behind in them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from explorer.export.tracing import _keep_guard, exporting, tracing

ROOT = Path(__file__).resolve().parents[2]
TWICE = """
import threading
import torch
import explorer

asked = []
real = torch._C._ensureCUDADeviceGuardSet
torch._C._ensureCUDADeviceGuardSet = lambda: (asked.append(threading.current_thread()), real())
subject = explorer.load("vowels-rnn")
for name in {formats!r}:
    one = threading.Thread(target=explorer.export, args=(subject, explorer.Recipe(), {folder!r} + name), kwargs={{"formats": [name]}})
    one.start()
    one.join()
    print(name, asked[0].name, asked[0].is_alive())
"""


@pytest.mark.parametrize("formats", [("onnx", "pt2"), ("pt2", "onnx")])
def test_threads_may_end_after_they_exported(formats: tuple[str, ...], tmp_path: Path) -> None:
    code = TWICE.format(formats=formats, folder=f"{tmp_path}/")
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines()[-2:] == [f"{name} explorer-guard True" for name in formats]
    assert all((tmp_path / name).is_dir() for name in formats)


def test_a_torch_without_such_a_guard_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_ensureCUDADeviceGuardSet")
    before = threading.active_count()
    _keep_guard.__wrapped__()
    assert threading.active_count() == before


def test_one_at_a_time() -> None:
    """While one traces, no other one does, nor does anybody's forward believe that it is traced."""
    seen: list[bool] = []

    def ask() -> None:
        with exporting():
            seen.append(torch.compiler.is_exporting())

    with tracing():
        other = threading.Thread(target=ask)
        other.start()
        other.join(0.2)
        assert other.is_alive() and not seen and not torch.compiler.is_exporting()
    other.join()
    assert seen == [True] and not torch.compiler.is_exporting()
