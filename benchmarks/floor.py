"""What arithmetic alone would take: the products that have to run again, at the speed of a large product as measured here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import explorer
from explorer.compress.resolve import resolve
from explorer.evaluate.engine import engine
from explorer.evaluate.jobs import lend
from explorer.evaluate.macs import no_fused_kernels
from explorer.models.device import wait

SOME = 2  # samples on which products are counted


def behind(subject: explorer.Subject, layer: str, device: torch.device, precision: str = "full") -> float:
    """Multiply-accumulates of one sample that run again when a layer's weights change: counted while a drag replays them."""
    run = engine(subject, device, precision)
    inputs = run.data("validation").some(SOME)
    with run.work() as work:
        job = run.job(resolve(subject, explorer.Recipe().prune(layer, sparsity=0.5)), "validation", work)

    def replay(kept: Any) -> Any:
        with torch.inference_mode():
            return job.runner.run(job.which, inputs, [(0, SOME)], lambda: lend(run.replica, job), lambda *_: None, kept)

    kept = replay(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oneDNN's settings for other devices
        with no_fused_kernels(), torch.backends.cudnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            replay(kept)
    return counter.get_total_flops() / 2 / SOME


def seconds(work: Callable[[], Any], device: torch.device, clock: Callable[[], float]) -> float:
    """Of one call, the device's work included."""
    wait(device)
    began = clock()
    work()
    wait(device)
    return clock() - began


def peak(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """FLOP/s of a product of matrices: the best of nine."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)  # libraries are loaded, and kernels chosen
    return 2 * n**3 / min(seconds(lambda: torch.mm(a, b), device, clock) for _ in range(9))
