"""How this machine runs a model fastest: dtype, layout, batch size and threads, measured once when it is loaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..models.replica import Replica
from ..models.subject import Subject
from ..models.task import part, to_device
from ..models.trial import tensors

SECONDS = 1.2  # that a model may be measured for
SAMPLES = 256
BATCHES = (64, 32, 128, 256)
ON_DEVICE = (512, 256, 1024, 2048)
FASTER = 0.87  # another setting must take less than this fraction of the time: half precision and copies cost something
HALF = torch.bfloat16  # never float16: a CPU runs it at about 1 GFLOP/s


@dataclass(frozen=True)
class Tuning:
    """dtype None: as the weights are. batch: samples run at once. rate: samples a second. threads None: as torch is set."""

    dtype: torch.dtype | None = None
    channels_last: bool = False
    batch: int = 64
    rate: float = 1000.0
    threads: int | None = None
    reason: str = ""  # why half precision is not used

    @property
    def layout(self) -> str:
        """As it is called on screen."""
        return "channels_last" if self.channels_last else "contiguous"


_known: dict[Any, dict[str, Tuning]] = {}
_lock = threading.Lock()


def laid_out(value: Any, channels_last: bool) -> Any:
    """Image tensors within collated inputs in the layout."""
    if channels_last and isinstance(value, Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    if isinstance(value, dict):
        return {key: laid_out(one, channels_last) for key, one in value.items()}
    if type(value) in (tuple, list):
        return type(value)(laid_out(one, channels_last) for one in value)
    return value


def tuning(subject: Subject, device: torch.device) -> dict[str, Tuning]:
    """{"full": ..., "fast": ...}. One answer a process for models of one structure, so that their figures are comparable."""
    shapes = tuple((name, tuple(p.shape), p.dtype) for name, p in subject.module.named_parameters())
    inputs = subject.task.batch("validation", [i % len(subject.task.dataset("validation")) for i in range(2)])[0]
    given = tuple((tuple(t.shape), t.dtype) for t in tensors(inputs))
    key = (type(subject.module), shapes, given, str(device), torch.get_num_threads(), subject.task.forward)
    with _lock:
        if key not in _known:
            _known[key] = _measure(subject, device)
        return _known[key]


def _measure(subject: Subject, device: torch.device) -> dict[str, Tuning]:
    task, n = subject.task, len(subject.task.dataset("validation"))
    batches = BATCHES if device.type == "cpu" else ON_DEVICE
    size = min(n, SAMPLES if device.type == "cpu" else 2 * max(batches))
    inputs = task.batch("validation", range(size))[0]
    images = any(t.ndim == 4 for t in tensors(inputs)) and not any(p.ndim == 5 for p in subject.module.parameters())
    end = time.perf_counter() + SECONDS

    def candidate(dtype: torch.dtype | None, last: bool) -> Callable[[int, int], float]:
        replica = Replica(subject.module, device, dtype, last)
        moved = laid_out(to_device(inputs, device, dtype), last)

        def seconds(batch: int, repeats: int) -> float:
            """Of one sample: the best of some passes over a few batches."""
            used = min(size, max(batch, min(size, 64)))
            best = float("inf")
            with replica.weights({}) as module, torch.inference_mode():
                task.forward(module, part(moved, slice(0, min(batch, 8))))
                for _ in range(repeats):
                    began = time.perf_counter()
                    for start in range(0, used, batch):
                        task.forward(module, part(moved, slice(start, min(start + batch, used))))
                    _wait(device)
                    best = min(best, time.perf_counter() - began)
                    if time.perf_counter() > end:
                        break
            return best / used

        return seconds

    try:
        plain = candidate(None, False)
        first = plain(batches[0], 2)
    except Exception:  # the evaluation says so, with the sample at fault
        return {"full": Tuning(), "fast": Tuning()}
    full, run, best = Tuning(batch=batches[0], rate=1 / first), plain, first
    if images and time.perf_counter() < end:
        other = candidate(None, True)
        took = other(batches[0], 2)
        if took < FASTER * best:
            full, run, best = replace(full, channels_last=True, rate=1 / took), other, took
    fast, reason = full, "not tried: float32 took all the time there is"
    if time.perf_counter() < end:
        reason = "slower than float32 on this machine"
        try:
            half = candidate(HALF, full.channels_last)
            took = half(batches[0], 2)
            if took < FASTER * best:
                fast, reason = replace(full, dtype=HALF, rate=1 / took), ""
        except Exception as error:  # an operation without a kernel for it
            reason = f"not possible: {type(error).__name__}"
    fast = replace(fast, reason=reason)
    for batch in batches[1:]:
        if batch > size or time.perf_counter() > end:
            continue
        took = run(batch, 2)
        if took < 0.95 * best:
            best, full = took, replace(full, batch=batch, rate=1 / took)
    if fast.dtype is None:
        fast = replace(full, reason=reason)
    else:
        fast = replace(fast, batch=full.batch)
    return {"full": full, "fast": fast}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
