"""What this machine can do, measured: peak FLOPs and bytes a second; and its name."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..models.device import wait

SIZES = (256, 512, 1024)  # of square products, among which the fastest counts
BYTES = 64 << 20
SECONDS = 0.25  # of each probe
_known: dict[tuple[str, int], tuple[float, float]] = {}
_lock = threading.Lock()


def name(device: str | torch.device = "cpu") -> str:
    """The processor's name."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()


def peaks(device: str | torch.device = "cpu") -> tuple[float, float]:
    """(FLOPs a second of a float32 matrix product, bytes a second read and written by a copy), measured once a process."""
    device = torch.device(device)
    key = (str(device), torch.get_num_threads())
    with _lock:
        if key not in _known:
            _known[key] = (_product(device), _copy(device))
        return _known[key]


def _best(run: Callable[[], object], device: torch.device) -> float:
    """Least seconds of a run."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    run()
    while (
        best == float("inf") or time.perf_counter() < end
    ):  # once at least: the warm-up may take all the time on a busy machine
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        best = min(best, time.perf_counter() - start)
    return best


@torch.inference_mode()
def _product(device: torch.device) -> float:
    found = []
    for n in SIZES if device.type == "cpu" else (2048, 4096):
        a, b, c = (torch.ones(n, n, device=device) for _ in range(3))
        found.append(2 * n**3 / _best(lambda a=a, b=b, c=c: torch.mm(a, b, out=c), device))  # type: ignore[misc]
    return max(found)


@torch.inference_mode()
def _copy(device: torch.device) -> float:
    source = torch.ones(BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * BYTES / _best(lambda: target.copy_(source), device)
