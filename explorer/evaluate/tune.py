"""How this machine runs a model fastest: dtype, layout, batch size and threads, measured once when it is loaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..core.message import say
from ..models.device import exact, threads, wait
from ..models.layout import laid_out
from ..models.replica import LARGE, Replica, weight_bytes
from ..models.subject import Subject
from ..models.task import to_device
from ..models.trial import tensors
from .queue import queue_of
from .recurrent import KINDS
from .tiers import runner_for

SECONDS = 1.0  # that a model may be measured for
TOO_LONG = 10.0  # seconds for eight samples above which nothing else is tried
SAMPLES = 256
BATCHES = (64, 32, 128, 256)
ON_DEVICE = (512, 256, 1024, 2048, 64)
WAITING = 0.7  # of its time that a pass spends in Python above which the device waits for Python more than the other way round
FASTER = 0.87  # half precision must take less than this fraction of the time, since it costs exactness
AS_FAST = 1.05  # fewer threads, and batches that end sooner, may take this much longer
SHORT = 0.05  # seconds of a batch: whoever moves the handle next waits for its end
FUSED = 0.98  # products together with what follows them, of the time of one after the other
ROUNDS = 3  # in which these two take turns
LAID_OUT = 0.95  # and another layout, which costs a copy of the weights
HALF = torch.bfloat16  # never float16: a CPU runs it at about 1 GFLOP/s


@dataclass(frozen=True)
class Tuning:
    """dtype None: as the weights are. batch: samples run at once. rate: samples a second. threads None: as torch is set."""

    dtype: torch.dtype | None = None
    channels_last: bool = False
    batch: int = 64
    rate: float = 1000.0
    threads: int | None = None
    graphs: bool = False  # whether a GPU waits for Python, so that recording what it is told to do may be faster
    fused: bool = False  # whether a CPU does products together with what follows them
    reason: str = ""  # why half precision is not used

    @property
    def layout(self) -> str:
        """As it is called on screen."""
        return "channels_last" if self.channels_last else "contiguous"


_known: dict[Any, dict[str, Tuning]] = {}
_lock = threading.Lock()


def tuning(subject: Subject, device: torch.device) -> dict[str, Tuning]:
    """{"full": ..., "fast": ...}. One answer a process for models of one structure, so that their figures are comparable."""
    mine: dict[Any, dict[str, Tuning]] = subject.__dict__.setdefault("_tuned", {})
    here = (str(device), torch.get_num_threads())
    if here not in mine:
        shapes = tuple((name, tuple(p.shape), p.dtype) for name, p in subject.module.named_parameters())
        inputs = subject.task.batch("validation", [i % len(subject.task.dataset("validation")) for i in range(2)])[0]
        given = tuple((tuple(t.shape), t.dtype) for t in tensors(inputs))
        key = (type(subject.module), shapes, given, here, subject.task.forward)
        with _lock:
            if key not in _known:
                _known[key] = _measure(subject, device)
            mine[here] = _known[key]
    return mine[here]


def _measure(subject: Subject, device: torch.device) -> dict[str, Tuning]:
    """Candidates take turns, since a machine's pace changes while one measures."""
    task, n = subject.task, len(subject.task.dataset("validation"))
    batches = BATCHES if device.type == "cpu" else ON_DEVICE
    size = min(n, SAMPLES if device.type == "cpu" else 2 * max(batches))
    collated = {
        batch: [
            task.batch("validation", range(a, min(a + batch, size)))[0]
            for a in range(0, min(size, max(batch, 64)), batch)
        ]
        for batch in (8, *batches)
        if batch in (8, batches[0]) or batch <= size
    }
    ranks = {p.ndim for p in subject.module.parameters()}
    images = 4 in ranks and 5 not in ranks and any(t.ndim == 4 for t in tensors(collated[8]))
    end = time.perf_counter() + SECONDS
    plain = (None, False)
    runs: dict[Any, Candidate] = {}
    first = 0.0  # seconds a sample of the plain one's first run
    reason = say("slower than float32 on this machine")
    for dtype, last in (plain, (None, True), (HALF, False), (HALF, True)):
        if last and not images:
            continue
        if device.type == "cpu" and (dtype, last) != plain and weight_bytes(subject.module) > LARGE:
            reason = say("a second copy of weights of this size is not made")
            continue
        try:
            runs[dtype, last] = Candidate(subject, device, collated, dtype, last)
            took = runs[dtype, last](8)
            if device.type == "cuda" and not first:  # libraries and kernels were loaded just now
                took, end = runs[dtype, last](8), time.perf_counter() + SECONDS
            first = first or took
            if first * min(8, n) > TOO_LONG:
                break
        except (
            Exception
        ) as error:  # an operation without a kernel for it; a plain one that fails says so when it is evaluated
            runs.pop((dtype, last), None)
            reason = say("not possible: {type}", type=type(error).__name__) if dtype is HALF else reason
    if plain not in runs:
        return {"full": Tuning(reason=reason), "fast": Tuning(reason=reason)}
    if first * min(8, n) > TOO_LONG:
        only = Tuning(batch=8, rate=1 / first, reason=say("the model takes too long to be measured in other ways"))
        return {"full": only, "fast": only}
    best: dict[Any, float] = {}

    def rounds(keys: list[Any], times: int) -> None:
        """Seconds a sample of each key (dtype, layout, batch): the best of some rounds."""
        for _ in range(times):
            for key in keys:
                if (time.perf_counter() < end or key not in best) and best.get(key) != float("inf"):
                    best[key] = min(best.get(key, float("inf")), _fitting(runs[key[:2]], key[2]))

    rounds([(*key, batches[0]) for key in runs], 3)
    layout = best.get((None, True, batches[0]), float("inf")) < LAID_OUT * best[*plain, batches[0]]
    halves = [key for key in best if key[0] is HALF]
    half = min(halves, key=best.__getitem__) if halves else None
    rounds([(None, layout, batch) for batch in batches[1:] if batch <= size], 3)
    steps = any(type(module) in KINDS for module in subject.module.modules())
    size_key = (None, layout, _short({key[2]: best[key] for key in best if key[:2] == (None, layout)}, steps))
    if best[size_key] == float("inf"):  # a device that has no memory for any of these
        only = Tuning(None, layout, 8, 1 / first, reason=reason)
        return {"full": only, "fast": only}
    count = _threads(device, lambda: runs[size_key[:2]](size_key[2]), best[size_key])
    soon = device.type == "cpu" and ROUNDS * SAMPLES * best[size_key] < SECONDS / 4
    chosen = runs[size_key[:2]]
    fused, pace = chosen.fused((size_key[2], *(key[2] for key in best if key[:2] == (None, layout)))) if soon else (None, None)
    settings = (1 / best[size_key], count, chosen.waits.get(size_key[2], False), fused is not None, reason)
    full = fast = Tuning(None, layout, fused or size_key[2], *settings)
    if half is not None:
        rounds([(*half[:2], full.batch)], 3)
        half = min((*half[:2], batches[0]), (*half[:2], full.batch), key=best.__getitem__)
        together, half_pace = runs[half[:2]].fused((full.batch,)) if soon else (None, None)
        if (half_pace or best[half]) < FASTER * (pace or best[size_key]):
            waits = runs[half[:2]].waits.get(half[2], False)
            fast = Tuning(HALF, half[1], full.batch, 1 / best[half], count, waits, together is not None)
    return {"full": full, "fast": fast}


def _short(best: Mapping[int, float], steps: bool) -> int:
    """The fastest batch, of {batch: seconds a sample}; where that one lasts, one that ends sooner and is about as fast.

    steps: whether there are recurrent layers. A graph computes them step by step, each with the weights laid out anew: of those about as fast, the largest.
    """
    able = [batch for batch in best if best[batch] <= AS_FAST * min(best.values())]
    short = [batch for batch in able if batch * best[batch] <= SHORT]
    return max(short, key=lambda batch: (steps * batch, -best[batch])) if short else min(able)


def _threads(device: torch.device, seconds: Callable[[], float], several: float) -> int | None:
    """The fewest threads that are about as fast as all: what they leave is for those who draw, and for other sessions."""
    every = torch.get_num_threads()
    if device.type != "cpu" or every == 1:
        return None
    found = {every: several}
    for n in sorted({1, every // 2}):
        with threads(n):
            found[n] = min(seconds() for _ in range(2))
    return next(n for n in sorted(found) if found[n] <= AS_FAST * min(found.values()))


class Candidate:
    """batch -> seconds a sample of one pass over a few batches. waits: {batch: whether the device did, for Python, in the last one}."""

    def __init__(
        self, subject: Subject, device: torch.device, collated: Mapping[int, list[Any]], dtype: torch.dtype | None, last: bool
    ) -> None:
        self.subject, self.device, self.collated, self.dtype, self.last = subject, device, collated, dtype, last
        self.replica = Replica(subject.module, device, dtype, last)
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        self.clock = time.thread_time if alone else time.perf_counter  # what others do on this machine is no property of it
        self.waits: dict[int, bool] = {}

    def __call__(self, batch: int) -> float:
        task, samples = self.subject.task, len(self.subject.task.dataset("validation"))
        moved = [self._moved(one) for one in self.collated[batch]]
        with self._alone(), self.replica.weights({}) as module, torch.inference_mode():
            wait(self.device)  # for the copies
            began = self.clock()
            for one in moved:
                task.forward(module, one)
            told = self.clock() - began
            wait(self.device)
            took = max(self.clock() - began, 1e-9)
        self.waits[batch] = self.device.type == "cuda" and told > WAITING * took
        return took / min(len(moved) * batch, samples)

    def fused(self, batches: Sequence[int]) -> tuple[int | None, float | None]:
        """(batch, seconds a sample) in which the module's graph is fastest with products and what follows them as one operation: the first
        of the given ones, or the largest, since each operation takes longer to begin. (None, seconds): it is no faster than without, in the
        first; (None, None): there is nothing of that kind."""
        task, total = self.subject.task, len(self.subject.task.dataset("validation"))
        few = [self._moved(task.batch("validation", [i % total for i in range(n)])[0]) for n in (2, 3)]
        with torch.no_grad():
            plain, fused = (runner_for(self.subject, self.replica, few[0], few[1], batch=batches[0], fused=one) for one in (False, True))
        if not fused.fused:
            return None, None
        runs = [(plain, batches[0]), *((fused, batch) for batch in sorted({batches[0], max(batches)}))]
        best = dict.fromkeys(runs, float("inf"))
        with torch.inference_mode():
            for _ in range(ROUNDS):
                for runner, batch in runs:
                    inputs, size = self._moved(self.collated[batch][0]), min(batch, total)
                    began = self.clock()
                    runner.run(None, inputs, [(0, size)], partial(self.replica.weights, {}), _ignore, None)
                    best[runner, batch] = min(best[runner, batch], (self.clock() - began) / size)
        fastest = min(runs[1:], key=best.__getitem__)
        return (fastest[1], best[fastest]) if best[fastest] < FUSED * best[runs[0]] else (None, best[runs[0]])

    def _moved(self, inputs: Any) -> Any:
        return laid_out(to_device(inputs, self.device, self.dtype), self.last)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """On a GPU others would be in the way, and what float32 means there is one setting for all threads."""
        if self.device.type != "cuda":
            yield
            return
        queue = queue_of(self.device)
        with queue.request(None, False) as request, queue.turn(request), exact(self.device):
            yield


def _ignore(start: int, stop: int, outputs: Any) -> None:
    """For runs that are timed."""


def _fitting(run: Callable[[int], float], batch: int) -> float:
    """Seconds a sample; infinite where the device has no memory for such a batch, or the forward fails, as its evaluation will say."""
    try:
        return run(batch)
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError) and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return float("inf")
