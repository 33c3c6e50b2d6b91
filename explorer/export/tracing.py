"""torch.export and torch.onnx keep state in globals: one at a time, and nothing that ends with a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

_lock = threading.Lock()


@contextmanager
def tracing() -> Iterator[None]:
    """To be held while torch traces a module for a file; others wait."""
    _keep_guard()
    with _lock:
        yield


@contextmanager
def exporting() -> Iterator[None]:
    """A forward that asks ``torch.compiler.is_exporting()`` goes the way here that the exporter will take."""
    with _lock:
        torch.compiler._is_exporting_flag = True
        try:
            yield
        finally:
            torch.compiler._is_exporting_flag = False


@cache
def _keep_guard() -> None:
    """Where torch was built for CUDA and there is no GPU, it traces with a device guard that torch 2.11 keeps in the thread which asks for
    it first. That one often ends with its task, and whoever traces next ends the process by a segmentation fault. So a thread that never ends asks."""
    ask, asked = getattr(torch._C, "_ensureCUDADeviceGuardSet", None), threading.Event()
    if ask is None:
        return

    def stay() -> None:
        try:
            ask()
        finally:
            asked.set()
        threading.Event().wait()

    threading.Thread(target=stay, name="explorer-guard", daemon=True).start()
    asked.wait()
