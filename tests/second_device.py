"""A second device without hardware: PyTorch's lazy tensors, computed on the CPU, that refuse to meet CPU tensors.

    EXPLORER_TEST_DEVICES=lazy pytest -p tests.second_device tests/compress

Finds tensors on the wrong device on a machine without a GPU. Lazy tensors know no inference mode and have no address, recurrent
layers do not run on them, and a few operations are wrong (linear on a chunk, pixel_shuffle): tests of these fail there for
no fault of ours.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch._lazy.ts_backend


def without_inference(mode: Any = True) -> Any:
    """In place of torch.inference_mode, as a context and as a decorator."""
    if callable(mode):
        return torch.no_grad()(mode)
    return torch.no_grad() if mode else contextlib.nullcontext()


at = torch.UntypedStorage.data_ptr


def address(storage: torch.UntypedStorage) -> int:
    """In place of the address that a lazy tensor's storage does not have: what tells it apart."""
    try:
        return at(storage)
    except RuntimeError:
        return storage._cdata


torch.UntypedStorage.data_ptr = address  # type: ignore[method-assign]
torch.inference_mode = without_inference  # type: ignore[assignment,misc]
torch._lazy.ts_backend.init()

from explorer.models import device  # noqa: E402

device.devices = lambda: ["lazy", "cpu"]
