"""Where to compute."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UnsupportedError
from ..core.message import say


def devices() -> list[str]:
    """Devices that this torch can use, the fastest first; always ends with "cpu"."""
    found = [f"cuda:{i}" if torch.cuda.device_count() > 1 else "cuda" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def pick(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the fastest. Raises :class:`UnsupportedError` for one that is not there."""
    if device is None:
        return torch.device(devices()[0])
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise UnsupportedError(
            say("device={device!r}; accepted: {devices}", device=device, devices=", ".join(devices()))
        ) from None
    if wanted.type == "cpu":
        return wanted
    missing = wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count()
    if missing or wanted.type not in {name.partition(":")[0] for name in devices()}:
        raise UnsupportedError(
            say(
                "device={device!r} is not available to this torch; accepted: {devices}",
                device=device,
                devices=", ".join(devices()),
            )
        )
    if wanted.type == "cuda":  # one name a device, since engines and queues go by it
        return torch.device(devices()[torch.cuda.current_device() if wanted.index is None else wanted.index])
    return wanted


def place(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """``tensor`` on ``device``, a floating one in ``dtype`` if given. MPS has no float64: there it becomes float32."""
    there = torch.device(device).type == "mps"
    wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    if there:
        return tensor.to(torch.float32 if wanted == torch.float64 else wanted).to(device)
    return tensor.to(device).to(wanted)  # in this order: what comes from MPS cannot become float64 before it left


def precise(device: torch.device | str) -> torch.device:
    """Where float64 is to be had for what lies on ``device``: there, except for MPS."""
    return torch.device("cpu" if torch.device(device).type == "mps" else device)


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Within the block float32 means float32: on CUDA, convolutions would otherwise round their inputs to TF32."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # type: ignore[no-any-return,no-untyped-call]


def wait(device: torch.device) -> None:
    """Until an accelerator has done what this thread told it to do. Of a GPU not until all is done: to wait for the whole device
    is forbidden while another thread records a graph."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def room(device: torch.device, least: int) -> int:
    """Bytes that may be kept on a device: ``least``, or an eighth of a GPU's memory where that is more."""
    whole = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    return max(least, whole // 8)


def threads(n: int | None) -> AbstractContextManager[None]:
    """Within the block torch computes with ``n`` threads; None: as it is set."""
    return nullcontext() if n is None or n == torch.get_num_threads() else _threads(n)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def unused_gpu() -> bool:
    """True where an NVIDIA GPU is there but this build of torch cannot use it."""
    if torch.cuda.is_available():
        return False
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
