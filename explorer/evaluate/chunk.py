"""Samples of a split on their way through one or several jobs: whose turn it is, what came out, and who is at fault."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.errors import Cancelled, ExplorerError, failed
from ..core.message import say
from ..models.device import exact, threads
from ..models.task import part
from .data import SplitData
from .fault import sample_of
from .jobs import Job, lend
from .metrics import Rows
from .runners import Finish, Ranges, Runner, Session
from .seen import Work, joined, together

if TYPE_CHECKING:
    from .engine import Engine


class Chunk:
    """Samples from the first edge to the last, of which each stretch between two is run by itself. spent: seconds of computing so far."""

    def __init__(self, run: Engine, data: SplitData, edges: Sequence[int], work: Work) -> None:
        self.run, self.data, self.edges, self.work = run, data, edges, work
        self.start, self.stop = edges[0], edges[-1]
        self.spent = 0.0
        self._pieces: dict[Hashable, list[dict[str, Tensor]]] = {}
        self._apart = run.judge.apart and len(edges) > 2  # little work each: judged at once, in the end
        self._told: list[tuple[Tensor, Any]] = []

    def whole(self) -> tuple[int, int, Ranges]:
        """(first, last, batches) of all samples as one piece."""
        return self.start, self.stop, batches(self.stop - self.start, self.run.batch)

    def pieces(self, runner: Runner) -> list[tuple[int, int, Ranges]]:
        """(first, last, batches) of what a runner may be given at once. Where samples or values of several batches cannot be put
        together, each batch is a piece of its own."""
        found: list[tuple[int, int, Ranges]] = []
        for start, stop in pairwise(self.edges):
            ranges = batches(stop - start, self.run.batch)
            if self.data.whole and (runner.joins or runner.tier != "graph"):
                found.append((start, stop, ranges))
            else:
                found += [(start + a, start + b, [(0, b - a)]) for a, b in ranges]
        return found

    def session(self, job: Job) -> Session:
        """Lends the device, when it is one's turn, and the module as the job's plan changes it. Raises :class:`Cancelled`."""
        run, work = self.run, self.work

        @contextmanager
        def opened() -> Iterator[nn.Module]:
            if work.cancel is not None and work.cancel():
                raise cancelled(run, self.start, self.data.total)
            with (
                run.queue.turn(work.request),
                lend(run.replica, job) as module,
                exact(run.device),
                threads(run.tuned.threads),
            ):
                began = time.perf_counter()
                yield module
                self.spent += time.perf_counter() - began

        return opened

    def finish(self, key: Hashable, first: int, last: int, targets: Any) -> Finish:
        """Takes outputs of samples first .. last, and keeps their columns under ``key``."""
        judge, data = self.run.judge, self.data

        def tell(a: int, b: int, outputs: Any) -> None:
            own = targets if b - a == last - first else part(targets, slice(a, b))
            if self._apart and isinstance(outputs, Tensor) and outputs.device.type == "cpu" and isinstance(own, Tensor):
                self._told.append((outputs, own))
                return
            judge.refuse_nan(outputs, data, first + a)
            self._pieces.setdefault(key, []).append(judge.columns(outputs, own, data, first + a, first + b))

        return tell

    def columns(self, key: Hashable) -> dict[str, Tensor]:
        """{name: [stop - start, ...]} of what was told."""
        if not self._told:
            return together(self._pieces[key])
        rows, targets = zip(*self._told, strict=True)
        return self.run.judge.sound_columns(Rows(rows), joined(list(targets)), self.data, self.start, self.stop)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Whatever a forward raises becomes a message with the sample at fault."""
        try:
            yield
        except (ExplorerError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            subject, split = self.run.subject.name, self.data.split
            at = sample_of(self.run, self.data, self.start, self.stop, self.work)
            if at is not None:
                where = say("{subject}: forward failed on sample {at} of {split}", subject=subject, at=at, split=split)
            else:
                first = self.data.order[self.start : self.stop][:3].tolist()
                where = say("{subject}: forward failed on {split} samples {first}..., though on none of them alone", subject=subject, split=split, first=first)
            raise failed(where, error) from error


def lent(module: nn.Module) -> Session:
    """A session of what is lent already."""
    return lambda: nullcontext(module)


@lru_cache(256)
def batches(size: int, step: int) -> Ranges:
    """``size`` samples in batches of ``step``; a rest of less than a quarter goes with the last one, since each costs its calls."""
    edges = list(range(0, size, step))
    if len(edges) > 1 and size - edges[-1] < step / 4:
        edges.pop()
    return tuple(pairwise([*edges, size]))


def cancelled(run: Engine, n: int, total: int) -> Cancelled:
    """What a cancelled evaluation raises."""
    return Cancelled(
        say("{subject}: cancelled after {n} of {total} samples", subject=run.subject.name, n=n, total=total)
    )
