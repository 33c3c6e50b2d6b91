"""Energy measured by an NVIDIA GPU's own counter; needs the optional package nvidia-ml-py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.explanation import Energy
from ..models.joules import library as library
from .timing import quartiles

SOURCE = "NVML total energy counter, idle power subtracted"
IDLE, BUSY, REPEATS = 1.0, 2.0, 5  # seconds, seconds, times


def measure(
    run: Callable[[], object],
    samples: int,
    index: int = 0,
    *,
    nvml: Any = None,
    clock: Callable[[], float] = time.monotonic,
    rest: Callable[[float], None] = time.sleep,
) -> Energy | None:
    """Joules a sample of ``run``, which computes ``samples`` on GPU ``index`` and returns when it is done.

    The counter is read before and after at least 2 s of runs, less what as many seconds of idling took just before; five
    times. Others' work on the same GPU is counted, too. None where the GPU has no such counter.
    """
    nvml = nvml if nvml is not None else library()
    if nvml is None:
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = nvml.nvmlDeviceGetName(handle)

        def joules() -> float:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000  # the counter is in millijoules

        joules()
        run()
        found = []
        for _ in range(REPEATS):
            before, start = joules(), clock()
            rest(IDLE)
            power = (joules() - before) / max(clock() - start, 1e-9)
            before, start, times = joules(), clock(), 0
            while clock() - start < BUSY:
                run()
                times += 1
            spent = joules() - before - power * (clock() - start)
            found.append(spent / (times * samples))
    except nvml.NVMLError:
        return None
    median, low, high = quartiles(np.array(found))
    label = name.decode() if isinstance(name, bytes) else str(name)
    return Energy("measured", median, low, high, {}, SOURCE, label)
