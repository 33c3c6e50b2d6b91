"""Where to compute."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

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
    missing = wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count()
    if missing or wanted.type not in {name.partition(":")[0] for name in devices()}:
        raise UnsupportedError(
            say(
                "device={device!r} is not available to this torch; accepted: {devices}",
                device=device,
                devices=", ".join(devices()),
            )
        )
    return wanted


def unused_gpu() -> bool:
    """True where an NVIDIA GPU is there but this build of torch cannot use it."""
    if torch.cuda.is_available():
        return False
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
