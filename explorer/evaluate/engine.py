"""Runs a plan over the samples of a split, chunk by chunk, from what did not change, and keeps what it saw."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..compress.plan import Plan
from ..core.errors import Cancelled, EvaluationError, cause
from ..core.kept import kept_property
from ..core.message import say
from ..models.device import exact, threads
from ..models.replica import Replica, share
from ..models.stored import dtype_name
from ..models.subject import Subject
from ..models.task import part
from .chunk import Chunk, cancelled, lent
from .data import SplitData
from .jobs import CHECKED, Check, Job, Jobs
from .joining import Joining
from .judge import Judge
from .metrics.classification import margins
from .prefixes import prefixes_of, storages
from .queue import queue_of
from .recorded import Recorded
from .recorder import CudaRecorder
from .runners import Runner
from .seen import Seen, Work
from .tiers import runner_for
from .tune import Tuning, tuning

KEPT = 128  # evaluations whose columns are kept, a few hundred kB each
FIRST_ANSWER = 0.040  # seconds of evaluation that the first answer may take
MOMENT = 0.005  # seconds that one may hold the device for several looks at once
MARGINS = 0.3  # seconds at load for the margins by which samples are stratified
_tokens = itertools.count()

Progress = Callable[[int, int], None] | None
T = TypeVar("T")


class Engine:
    """One subject on one device in one precision. Shared by everybody who looks at that subject."""

    def __init__(self, subject: Subject, device: torch.device, tuned: Tuning) -> None:
        self.subject, self.device, self.dtype, self.tuned = subject, device, tuned.dtype, tuned
        self.replica = Replica(subject.module, device, tuned.dtype, tuned.channels_last)
        self.version = subject.version
        self.judge = Judge(subject)
        self.metrics = self.judge.metrics
        self.batch, self.rate = tuned.batch, tuned.rate  # rate: samples a second of the whole module
        self.chunks = self.samples = 0  # evaluated so far: tests count them
        self.joined = 0  # evaluations that found all of their work done, or being done, by another
        self.queue, self.prefixes = queue_of(device), prefixes_of(device)
        self.joining = Joining()
        self.token = next(_tokens)
        self._splits: dict[str, SplitData] = {}
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self._jobs: Jobs | None = None
        self._rates: OrderedDict[Any, float] = OrderedDict()  # of parts whose values in front are kept
        self.recorded = Recorded(self.replica, CudaRecorder(device) if tuned.graphs else None, self.prefixes.budget // 4)
        self._lock, self._loading = threading.Lock(), threading.Lock()
        weakref.finalize(self, self.prefixes.drop, self.token)

    def data(self, split: str) -> SplitData:
        """The samples of a split, on the device."""
        self.subject.task.dataset(split)
        if split in self._splits:
            return self._splits[split]
        with self._loading:  # not the lock that evaluations take, since margins wait for one's turn on the device
            if split not in self._splits:
                first = 1 << max(5, int(FIRST_ANSWER * self.tuned.rate).bit_length() - 1)
                settings = (self.device, self.dtype, self.tuned.channels_last, first)
                pool = int(MARGINS * self.tuned.rate)
                self._splits[split] = SplitData(self.subject.task, split, *settings, self._margins, pool)
            return self._splits[split]

    def _margins(self, inputs: Any, targets: Any) -> np.ndarray | None:
        """[N] margins of the original's answers; None where it gives none, of which its evaluation will say more."""
        found = []
        try:
            for start in range(0, len(targets), self.batch):
                some = slice(start, start + self.batch)
                with self.queue.request(None, True) as request, self.queue.turn(request), exact(self.device):
                    with self.replica.weights({}) as module, torch.inference_mode():
                        one = share(module) if self.replica.layered is None else module  # it may keep what it sees
                        outputs = self.subject.task.forward(one, part(inputs, some))
                        found.append(margins(outputs, part(targets, some)))
            return torch.cat(found).cpu().numpy()
        except Exception:
            return None

    @kept_property
    def precision(self) -> str:
        """What is computed in: fp32, bf16, fp16 or fp64."""
        return dtype_name(next((p.dtype for p in self.replica.module.parameters() if p.is_floating_point()), torch.float32))

    @property
    def jobs(self) -> Jobs:
        """How plans are run; found on first use."""
        if self._jobs is None:
            data = self.data("validation")

            def make(plain: bool) -> Runner:
                with threads(self.tuned.threads):
                    found = runner_for(self.subject, self.replica, data.some(2), data.some(3), plain, min(self.batch, data.total), self.tuned.fused)
                found.room = self.prefixes.budget
                return found

            with self._lock:
                if self._jobs is None:
                    self._jobs = Jobs(self.subject, self.replica, make, self.token)
        return self._jobs

    @property
    def runner(self) -> Runner:
        """How chunks are computed."""
        return self.jobs.runner

    def seen(self, plan: Plan, split: str) -> Seen:
        """What was seen so far of a plan on a split."""
        key = (plan.digest, split)
        with self._lock:
            found = self._seen.get(key)
            if found is None:
                found = self._seen[key] = Seen()
            self._seen.move_to_end(key)
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
            return found

    @contextmanager
    def work(self, user: Any = None, preview: bool = False, cancel: Callable[[], bool] | None = None) -> Iterator[Work]:
        """An evaluation in the device's queue."""
        with self.queue.request(user, preview, cancel=cancel) as request:
            yield Work(request, cancel)

    def ensure(
        self, plan: Plan, split: str, n: int, work: Work, progress: Progress = None, patience: float | None = None
    ) -> Seen:
        """Evaluate until the first ``n`` samples were seen; identical work in flight is done once.

        patience: seconds of computing, on a machine that may be busier than it was: no chunk is begun that would end after them, but the first.
        """
        data, seen = self.data(split), self.seen(plan, split)
        n, mine = min(n, data.total), 0
        while seen.n < n:
            if work.cancel is not None and work.cancel():
                raise cancelled(self, seen.n, n)
            with seen.held_by(work.request):
                if seen.n >= n:
                    break
                try:
                    stop, columns = self.fitting(partial(self._chunk, plan, data, seen.n, n, work))
                except Cancelled:
                    raise cancelled(self, seen.n, n) from None
                seen.parts.append(columns)
                seen.n, mine = stop, mine + 1
            if progress is not None:
                progress(min(seen.n, n), n)
            if patience is not None and seen.n < n and _late(work, data.looks, seen.n, patience):
                break
        if mine:
            self.jobs.remember(plan)
            self.joining.put(self, self.job(plan, split, work), data, work)
        else:
            self.joined += 1
        return seen

    def job(self, plan: Plan, split: str, work: Work) -> Job:
        """How a plan is run, settled once an evaluation."""
        if plan.digest not in work.jobs:
            work.jobs[plan.digest] = self.jobs.job(plan, split, self.checked(work))
        return work.jobs[plan.digest]

    def checked(self, work: Work) -> Check:
        """A few samples of the validation split, and the device, for a comparison with the plain module."""

        def check() -> tuple[Any, AbstractContextManager[Any]]:
            return self.data("validation").some(CHECKED), self.turn(work)

        return check

    @contextmanager
    def turn(self, work: Work) -> Iterator[None]:
        """Lends the device, when it is one's turn, for work that is no part of an evaluation."""
        with self.queue.turn(work.request), exact(self.device):
            yield

    def pace(self, plan: Plan, split: str, work: Work) -> tuple[float, int]:
        """(samples a second to expect of a plan where values in front are kept, how many samples they are kept of)."""
        group = self.job(plan, split, work).group
        held = self.prefixes.extent(group)
        return (max(self._rates.get(group, 0.0), self.rate) if held else self.rate), held

    def fitting(self, compute: Callable[[], T]) -> T:
        """What ``compute()`` returns; where the device has no memory for it, in smaller batches from now on."""
        while True:
            try:
                return compute()
            except torch.OutOfMemoryError as error:
                if self.batch <= 1:
                    why = say("{subject}: {device} has no memory for a single sample", subject=self.subject.name, device=str(self.device))
                    raise EvaluationError(say("{why}; accepted: another device, or less on this one ({cause})", why=why, cause=cause(error, 200))) from error
            self.batch //= 2  # not above, where the error holds the frames it came from, and these their tensors
            self.prefixes.drop(self.token)
            self.recorded.clear()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @torch.inference_mode()
    def _chunk(self, plan: Plan, data: SplitData, start: int, n: int, work: Work) -> tuple[int, dict[str, Tensor]]:
        """(stop, columns of the samples start .. stop), from their kept values where there are such; else these are kept."""
        job, user = self.job(plan, data.split, work), work.request.user
        chunk = Chunk(self, data, self._edges(job, data, start, n), work)
        place = chunk.start, chunk.stop, self.batch
        pieces = chunk.pieces(job.runner) if self.kept(job, place, user) is None else [chunk.whole()]
        kept = [self.kept(job, (first, last, self.batch), user) for first, last, _ in pieces]
        short, session, eager = None not in kept, chunk.session(job), self.recorded.recorder is None
        with chunk.named(), session() if short and eager else nullcontext() as module:  # the device for all of it at once
            opened = session if module is None else lent(module)
            for (first, last, ranges), front in zip(pieces, kept, strict=True):
                inputs, targets = data.chunk(first, last)
                finish = chunk.finish(None, first, last, targets)
                made = self.recorded.run(job, inputs, ranges, opened, finish, front, partial(self.turn, work))
                if job.which is not None and front is None and made is not None:
                    self.prefixes.put(job.group, (first, last, self.batch), made, storages(inputs), user)
        self._account(job, work, chunk.stop - start, chunk.spent, short)
        return chunk.stop, chunk.columns(None)

    def kept(self, job: Job, place: tuple[int, int, int], user: Any) -> Any:
        """The values in front of what a plan changes, of the samples first .. last in batches of a size; None where there are none."""
        return None if job.which is None else self.prefixes.get(job.group, place, user)

    def _edges(self, job: Job, data: SplitData, start: int, n: int) -> list[int]:
        """From ``start`` to the next look; on to the last one before ``n`` samples where that takes a moment, at the pace so far."""
        ahead = [edge for edge in data.looks if edge > start]
        held, rate = self.prefixes.extent(job.group), self._rates.get(job.group, 0.0)
        last = next(edge for edge in ahead if edge >= n)
        return [start, *(edge for i, edge in enumerate(ahead) if not i or edge <= min(last, held, start + rate * MOMENT))]

    def _account(self, job: Job, work: Work, size: int, spent: float, short: bool) -> None:
        """Count a chunk and learn the pace; short: from kept values."""
        with self._lock:
            self.chunks += 1
            self.samples += size
            rate = size / max(spent, 1e-6)
            if short:
                work.suffix += spent
                self._rates[job.group] = 0.5 * self._rates.get(job.group, rate) + 0.5 * rate
                while len(self._rates) > KEPT:
                    self._rates.popitem(last=False)
            else:
                work.prefix += spent
                self.rate = 0.5 * self.rate + 0.5 * rate
        work.samples += size


def _late(work: Work, looks: list[int], n: int, patience: float) -> bool:
    """Whether the chunk after ``n`` samples would end too late, at the pace so far."""
    spent = work.prefix + work.suffix
    following = next(edge for edge in looks if edge > n) - n
    return spent * (1 + following / max(work.samples, 1)) > patience


_engines_lock = threading.Lock()


def chosen_for(subject: Subject, device: torch.device, precision: str) -> Tuning:
    """How a precision is computed here; "fast" as "full" where there is nothing faster."""
    tuned = tuning(subject, device)
    return tuned["full"] if tuned["fast"].dtype is None else tuned[precision]


def loaded(subject: Subject, device: torch.device, precision: str) -> Engine | None:
    """The shared engine of a precision, where somebody has asked for it."""
    found: dict[tuple[str, torch.dtype | None], Engine] = subject.__dict__.get("_engines", {})
    return found.get((str(device), chosen_for(subject, device, precision).dtype))


def engine(subject: Subject, device: torch.device, precision: str = "full") -> Engine:
    """The shared engine of a precision; a new one when the caller has written to the subject's weights since."""
    chosen = chosen_for(subject, device, precision)
    with _engines_lock:
        # kept by the subject itself: an engine refers to it, so a table of ours would keep both forever
        mine: dict[tuple[str, torch.dtype | None], Engine] = subject.__dict__.setdefault("_engines", {})
        key = (str(device), chosen.dtype)
        if key not in mine or mine[key].version != subject.version:
            mine[key] = Engine(subject, device, chosen)
        return mine[key]
