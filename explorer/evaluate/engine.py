"""Runs a plan over the samples of a split, chunk by chunk, and keeps what it saw."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..compress.apply import effective_weights
from ..compress.plan import Plan
from ..core.errors import Cancelled, EvaluationError, ExplorerError, cause
from ..core.message import say
from ..models.device import exact
from ..models.replica import Replica
from ..models.subject import Subject
from ..models.trial import tensors
from .data import SplitData
from .metrics import metrics_of

KEPT = 128  # evaluations whose columns are kept, a few hundred kB each


class Seen:
    """Columns of the first ``n`` samples of a split under one plan."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.parts: list[dict[str, Tensor]] = []
        self.n = 0

    def columns(self, n: int) -> dict[str, Tensor]:
        """{name: [n, ...]} of the first n samples."""
        parts = list(self.parts)
        return {key: torch.cat([part[key] for part in parts])[:n] for key in parts[0]}


class Engine:
    """One subject on one device in one precision. Shared by everybody who looks at that subject."""

    def __init__(self, subject: Subject, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.subject, self.device, self.dtype = subject, device, dtype
        self.replica = Replica(subject.module, device, dtype)
        self.version = subject.version
        self.metrics = metrics_of(subject.task.kind)
        self.rate: float | None = None  # samples a second, measured
        self.chunks = 0  # forward passes so far: tests count them
        self._splits: dict[str, SplitData] = {}
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self._lock = threading.Lock()

    def data(self, split: str) -> SplitData:
        """The samples of a split, on the device."""
        self.subject.task.dataset(split)
        with self._lock:
            if split not in self._splits:
                self._splits[split] = SplitData(self.subject.task, split, self.device, self.dtype)
            return self._splits[split]

    def seen(self, plan: Plan, split: str) -> Seen:
        """What was seen so far of a plan on a split."""
        key = (plan.digest, split)
        with self._lock:
            found = self._seen.setdefault(key, Seen())
            self._seen.move_to_end(key)
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
            return found

    def ensure(
        self,
        plan: Plan,
        split: str,
        n: int,
        cancel: Callable[[], bool] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Seen:
        """Evaluate until the first ``n`` samples were seen; identical work in flight is done once."""
        data, seen = self.data(split), self.seen(plan, split)
        n = min(n, data.total)
        while seen.n < n:
            if cancel is not None and cancel():
                raise Cancelled(
                    say(
                        "{subject}: cancelled after {n} of {total} samples",
                        subject=self.subject.name,
                        n=seen.n,
                        total=n,
                    )
                )
            with seen.lock:
                if seen.n >= n:
                    break
                stop = next(edge for edge in data.looks if edge > seen.n)
                seen.parts.append(self._chunk(plan, data, seen.n, stop))
                seen.n = stop
            if progress is not None:
                progress(min(seen.n, n), n)
        return seen

    @torch.inference_mode()
    def _chunk(self, plan: Plan, data: SplitData, start: int, stop: int) -> dict[str, Tensor]:
        inputs, targets = data.chunk(start, stop)
        weights = effective_weights(self.subject, plan)
        with self.replica.weights(weights, plan.norms, plan.roundings()) as module:
            began = time.perf_counter()
            try:
                with exact(self.device):
                    outputs = self.subject.task.forward(module, inputs)
            except ExplorerError:
                raise
            except Exception as error:
                where = say(
                    "{subject}: forward failed on {split} samples {first}...",
                    subject=self.subject.name,
                    split=data.split,
                    first=data.order[start:stop][:3].tolist(),
                )
                raise EvaluationError(say("{where}: {cause}", where=where, cause=cause(error))) from error
            self._refuse_nan(outputs, data, start)  # before a score can be blamed for it
            columns = self._judge(outputs, targets, data, start, stop)
            took = time.perf_counter() - began
        self.chunks += 1
        rate = (stop - start) / max(took, 1e-6)
        self.rate = rate if self.rate is None else 0.5 * self.rate + 0.5 * rate
        return columns

    def _judge(self, outputs: Any, targets: Any, data: SplitData, start: int, stop: int) -> dict[str, Tensor]:
        """The metrics' columns, each with one value a sample."""
        where = say("{split} samples {first}...", split=data.split, first=data.order[start:stop][:3].tolist())
        try:
            found = self.metrics.columns(self.subject.task, outputs, targets)
            columns = {key: column.cpu() for key, column in found.items()}
        except EvaluationError as error:
            raise EvaluationError(
                say("{subject}: {where}: {error}", subject=self.subject.name, where=where, error=error.message)
            ) from error
        except ExplorerError:
            raise
        except Exception as error:
            failed = say("{subject}: score or loss failed on {where}", subject=self.subject.name, where=where)
            raise EvaluationError(say("{failed}: {cause}", failed=failed, cause=cause(error))) from error
        for name, column in columns.items():
            if column.ndim == 0 or len(column) != stop - start:
                raise EvaluationError(
                    say(
                        "{subject}: {score!r} has shape {shape} for {samples} samples of {split}; accepted: [{samples}], one "
                        "value a sample, or a (numerator, denominator) pair of these",
                        subject=self.subject.name,
                        score=name.rstrip("/"),
                        shape=tuple(column.shape),
                        samples=stop - start,
                        split=data.split,
                    )
                )
        return columns

    def _refuse_nan(self, outputs: object, data: SplitData, start: int) -> None:
        for tensor in tensors(outputs):
            if not bool(torch.isfinite(tensor.sum())) and bool(torch.isnan(tensor).any()):
                row = int(torch.isnan(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]).any(1).nonzero()[0])
                at = int(data.order[start + row]) if start + row < data.total else start
                raise EvaluationError(
                    say(
                        "{subject}: the output holds NaN, first at sample {at} of {split}; accepted: finite outputs",
                        subject=self.subject.name,
                        at=at,
                        split=data.split,
                    )
                )


_engines_lock = threading.Lock()


def engine(subject: Subject, device: torch.device, dtype: torch.dtype | None = None) -> Engine:
    """The shared engine; a new one when the caller has written to the subject's weights since."""
    with _engines_lock:
        # kept by the subject itself: an engine refers to it, so a table of ours would keep both forever
        mine: dict[tuple[str, torch.dtype | None], Engine] = subject.__dict__.setdefault("_engines", {})
        key = (str(device), dtype)
        if key not in mine or mine[key].version != subject.version:
            mine[key] = Engine(subject, device, dtype)
        return mine[key]


def fast_dtype(subject: Subject, plan: Plan, device: torch.device, split: str) -> torch.dtype | None:
    """bfloat16 where this machine runs this subject faster in it (measured once), else None: as in full precision."""

    def measure() -> Mapping[str, torch.dtype | None]:
        full = engine(subject, device)
        times = []
        try:
            for candidate in (full, engine(subject, device, torch.bfloat16)):
                data = candidate.data(split)
                stop = next((edge for edge in data.looks if edge >= 128), data.total)
                best = float("inf")
                for _ in range(3):
                    began = time.perf_counter()
                    candidate._chunk(plan, data, 0, stop)
                    best = min(best, time.perf_counter() - began)
                times.append(best)
        except Exception:  # an operation without a bfloat16 kernel, a score that insists on float32
            return {"dtype": None}
        return {"dtype": torch.bfloat16 if times[1] < 0.87 * times[0] else None}

    return subject.memo.get(("fast", subject.version, str(device)), measure)["dtype"]
