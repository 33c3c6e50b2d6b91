"""Runs a plan over the samples of a split, chunk by chunk, from what did not change, and keeps what it saw."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..compress.plan import Plan
from ..core.errors import Cancelled, EvaluationError, ExplorerError, cause
from ..core.message import say
from ..models.device import exact
from ..models.replica import Replica
from ..models.subject import Subject
from ..models.task import part
from .data import SplitData
from .jobs import CHECKED, Check, Job, Jobs, lend
from .judge import Judge
from .prefixes import shared as prefixes
from .prefixes import storages
from .queue import queue_of
from .runners import Runner
from .seen import Seen, Work
from .tiers import runner_for
from .tune import Tuning, tuning

KEPT = 128  # evaluations whose columns are kept, a few hundred kB each
FIRST_ANSWER = 0.040  # seconds of evaluation that the first answer may take
_tokens = itertools.count()

Progress = Callable[[int, int], None] | None


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
        self.queue = queue_of(device)
        self.token = next(_tokens)
        self._splits: dict[str, SplitData] = {}
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self._jobs: Jobs | None = None
        self._rates: OrderedDict[Any, float] = OrderedDict()  # of parts whose values in front are kept
        self._lock = threading.Lock()
        weakref.finalize(self, prefixes.drop, self.token)

    def data(self, split: str) -> SplitData:
        """The samples of a split, on the device."""
        self.subject.task.dataset(split)
        with self._lock:
            if split not in self._splits:
                first = 1 << max(5, int(FIRST_ANSWER * self.tuned.rate).bit_length() - 1)
                settings = (self.device, self.dtype, self.tuned.channels_last, first)
                self._splits[split] = SplitData(self.subject.task, split, *settings)
            return self._splits[split]

    @property
    def jobs(self) -> Jobs:
        """How plans are run; found on first use."""
        if self._jobs is None:
            data = self.data("validation")
            runner = runner_for(self.subject, self.replica, data.some(2), data.some(3))
            with self._lock:
                if self._jobs is None:
                    self._jobs = Jobs(self.subject, self.replica, runner, self.token)
        return self._jobs

    @property
    def runner(self) -> Runner:
        """How chunks are computed."""
        return self.jobs.runner

    def seen(self, plan: Plan, split: str) -> Seen:
        """What was seen so far of a plan on a split."""
        key = (plan.digest, split)
        with self._lock:
            found = self._seen.setdefault(key, Seen())
            self._seen.move_to_end(key)
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
            return found

    @contextmanager
    def work(self, user: Any = None, preview: bool = False, cancel: Callable[[], bool] | None = None) -> Iterator[Work]:
        """An evaluation in the device's queue."""
        with self.queue.request(user, preview) as request:
            yield Work(request, cancel)

    def ensure(self, plan: Plan, split: str, n: int, work: Work, progress: Progress = None) -> Seen:
        """Evaluate until the first ``n`` samples were seen; identical work in flight is done once."""
        data, seen = self.data(split), self.seen(plan, split)
        n, mine = min(n, data.total), 0
        while seen.n < n:
            if work.cancel is not None and work.cancel():
                raise self._cancelled(seen.n, n)
            with seen.held_by(work.request):
                if seen.n >= n:
                    break
                stop = next(edge for edge in data.looks if edge > seen.n)
                try:
                    seen.parts.append(self._fitting(plan, data, seen.n, stop, work))
                except Cancelled:
                    raise self._cancelled(seen.n, n) from None
                seen.n, mine = stop, mine + 1
            if progress is not None:
                progress(min(seen.n, n), n)
        if mine:
            self.jobs.remember(plan)
        else:
            self.joined += 1
        return seen

    def _cancelled(self, n: int, total: int) -> Cancelled:
        return Cancelled(
            say("{subject}: cancelled after {n} of {total} samples", subject=self.subject.name, n=n, total=total)
        )

    def job(self, plan: Plan, split: str, work: Work) -> Job:
        """How a plan is run, settled once an evaluation."""
        if plan.digest not in work.jobs:
            work.jobs[plan.digest] = self.jobs.job(plan, split, self.checked(work))
        return work.jobs[plan.digest]

    def checked(self, work: Work) -> Check:
        """A few samples of the validation split, and the device, for a comparison with the plain module."""

        def check() -> tuple[Any, AbstractContextManager[Any]]:
            stack = ExitStack()
            stack.enter_context(self.queue.turn(work.request))
            stack.enter_context(exact(self.device))
            return self.data("validation").some(CHECKED), stack

        return check

    def pace(self, plan: Plan, split: str, work: Work) -> float:
        """Samples a second to expect of a plan."""
        group = self.job(plan, split, work).group
        return max(self._rates.get(group, 0.0), self.rate) if prefixes.has(group) else self.rate

    def _fitting(self, plan: Plan, data: SplitData, start: int, stop: int, work: Work) -> dict[str, Tensor]:
        """Columns of a chunk; where the device has no memory for it, in smaller batches from now on."""
        while True:
            try:
                return self._chunk(self.job(plan, data.split, work), data, start, stop, work)
            except torch.OutOfMemoryError:
                if self.batch <= 1:
                    raise
                self.batch //= 2
                prefixes.drop(self.token)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    @torch.inference_mode()
    def _chunk(self, job: Job, data: SplitData, start: int, stop: int, work: Work) -> dict[str, Tensor]:
        """Columns of the samples start .. stop."""
        size = stop - start
        ranges = [(a, min(a + self.batch, size)) for a in range(0, size, self.batch)]
        pieces: list[dict[str, Tensor]] = []
        spent = 0.0

        @contextmanager
        def session() -> Iterator[nn.Module]:
            nonlocal spent
            if work.cancel is not None and work.cancel():
                raise self._cancelled(start, data.total)
            with self.queue.turn(work.request), lend(self.replica, job) as module, exact(self.device):
                began = time.perf_counter()
                yield module
                spent += time.perf_counter() - began

        def replay(first: int, last: int, batches: list[tuple[int, int]]) -> bool:
            """Samples first .. last, from their kept values where there are such; else these are kept."""
            inputs, targets = data.chunk(first, last)

            def finish(a: int, b: int, outputs: Any) -> None:
                self.judge.refuse_nan(outputs, data, first + a)
                own = targets if b - a == last - first else part(targets, slice(a, b))
                pieces.append(self.judge.columns(outputs, own, data, first + a, first + b))

            if job.which is None:
                job.runner.run(None, inputs, batches, session, finish, None)
                return False
            key, user = (first, last, self.batch), work.request.user
            kept = prefixes.get(job.group, key, user)
            made = job.runner.run(job.which, inputs, batches, session, finish, kept)
            if kept is None and made is not None:
                prefixes.put(job.group, key, made, storages(inputs), user)
            return kept is not None

        try:
            if data.whole and (job.runner.joins or job.runner.tier != "graph"):
                short = replay(start, stop, ranges)
            else:  # samples or values of several batches cannot be put together: each is a chunk of its own
                short = all([replay(start + a, start + b, [(0, b - a)]) for a, b in ranges])
        except (ExplorerError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            first = data.order[start:stop][:3].tolist()
            where = say(
                "{subject}: forward failed on {split} samples {first}...",
                subject=self.subject.name,
                split=data.split,
                first=first,
            )
            raise EvaluationError(say("{where}: {cause}", where=where, cause=cause(error))) from error
        self._account(job, work, size, spent, short)
        return pieces[0] if len(pieces) == 1 else {key: torch.cat([one[key] for one in pieces]) for key in pieces[0]}

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


_engines_lock = threading.Lock()


def engine(subject: Subject, device: torch.device, precision: str = "full") -> Engine:
    """The shared engine of a precision; a new one when the caller has written to the subject's weights since."""
    tuned = tuning(subject, device)
    chosen = tuned["full"] if tuned["fast"].dtype is None else tuned[precision]
    with _engines_lock:
        # kept by the subject itself: an engine refers to it, so a table of ours would keep both forever
        mine: dict[tuple[str, torch.dtype | None], Engine] = subject.__dict__.setdefault("_engines", {})
        key = (str(device), chosen.dtype)
        if key not in mine or mine[key].version != subject.version:
            mine[key] = Engine(subject, device, chosen)
        return mine[key]
