"""Energy that this machine's own counters saw while something ran: an NVIDIA GPU's, or a processor's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch

RAPL = Path("/sys/class/powercap")
EVERY = 30.0  # seconds between two readings: a processor's counter starts anew after minutes


class Counter(Protocol):
    """source: what is counted, and by what. joules(): since some point in the past, or None where it can no longer be read."""

    source: str

    def joules(self) -> float | None: ...


def library() -> ModuleType | None:
    """NVML's Python module, started; None where there is no driver, no GPU or no module (the optional nvidia-ml-py)."""
    try:
        import pynvml  # type: ignore[import-not-found,import-untyped]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml if pynvml.nvmlDeviceGetCount() else None
    except pynvml.NVMLError:
        return None


class Nvml:
    """All that a GPU took, others' work and idling included."""

    source = "NVML total energy counter of the GPU, others' work and idling included"

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle

    def joules(self) -> float | None:
        try:
            return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1000  # in millijoules
        except self.nvml.NVMLError:
            return None


class Rapl:
    """All that the processors took, summed over packages: Linux powercap, whose microjoules start anew at ``max_energy_range_uj``."""

    source = "RAPL counters of the processor packages, others' work and idling included"

    def __init__(self, zones: list[Path]) -> None:
        self.zones = zones
        self.ranges = [_number(zone / "max_energy_range_uj") for zone in zones]
        self.last = [_number(zone / "energy_uj") for zone in zones]
        self.total = 0

    def joules(self) -> float | None:
        try:
            now = [_number(zone / "energy_uj") for zone in self.zones]
        except (OSError, ValueError):
            return None
        for new, old, most in zip(now, self.last, self.ranges, strict=True):
            self.total += new - old if new >= old else new - old + most
        self.last = now
        return self.total / 1e6


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))


def counter(device: torch.device, root: Path = RAPL) -> Counter | None:
    """The counter of what computes on ``device``; None where there is none that this process may read."""
    if device.type == "cuda":
        return _gpu(device)
    if device.type != "cpu":
        return None
    zones = [
        zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1
    ]  # others are parts of these
    try:
        packages = [zone for zone in zones if (zone / "name").read_text(encoding="ascii").startswith("package")]
        return Rapl(packages) if packages else None
    except (OSError, ValueError):
        return None


def _gpu(device: torch.device) -> Counter | None:
    nvml = library()
    if nvml is None:
        return None
    try:  # by its UUID: CUDA_VISIBLE_DEVICES gives torch another order
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"  # type: ignore[attr-defined]
        found = Nvml(nvml, nvml.nvmlDeviceGetHandleByUUID(name))
    except (nvml.NVMLError, AttributeError):
        return None
    return found if found.joules() is not None else None


class Meter:
    """Joules between :meth:`start` and :meth:`stop`, or by now; None where nothing counts them. earlier: those of a training that
    this one goes on with, None where it had none."""

    def __init__(self, counter: Counter | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.counter, self.clock = counter, clock
        self._first: float | None = None
        self._last: float | None = None
        self._read = 0.0
        self.earlier: float | None = 0.0

    def start(self) -> None:
        self._first = self._last = self.counter.joules() if self.counter is not None else None
        self._read = self.clock()

    def tick(self) -> None:
        """Now and then: read the counter before it starts anew."""
        if self._first is not None and self.clock() - self._read >= EVERY:
            self.stop()

    def stop(self) -> None:
        """Read it; what is used afterwards does not count until the next reading."""
        if self._first is not None and self.counter is not None:
            self._last, self._read = self.counter.joules(), self.clock()

    @property
    def joules(self) -> float | None:
        """Up to the last reading."""
        if self._first is None or self._last is None or self.earlier is None:
            return None
        return self.earlier + self._last - self._first

    @property
    def source(self) -> str:
        """What was counted; empty where nothing was."""
        return self.counter.source if self.counter is not None and self.joules is not None else ""
