"""Many plans on the same samples: chunk by chunk, one pass of what they share, then each from where it begins to differ.

All of them sharpen together, nothing is held but one chunk's values, and a scan that was cancelled goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compress.plan import Plan
from ..core.errors import Cancelled, EvaluationError, ExplorerError, cause
from ..core.message import say
from ..core.report import Figure
from ..models.device import exact
from ..models.task import part
from .engine import Engine
from .intervals import Within
from .jobs import Job, lend
from .metrics import Table
from .runners import Run
from .seen import Work

FIRST_LOOK = 512  # samples after which a scan may stop a point for the first time
GLANCE = 64  # samples after which all points are known roughly, so that something can be shown
KEPT_SCANS = 4


@dataclass(frozen=True)
class Estimate:
    """What a scan knows of one plan from its first ``n`` samples: its metric, and the change from the base.

    Both with the intervals of an evaluation of ``n`` samples: they speak of samples not in the split. within: the change of the
    *whole split* lies there, at all looks of the scan together (by it a point is finished); None without an interval.
    """

    plan: str
    n: int
    total: int
    value: Figure
    change: Figure
    within: tuple[float, float] | None

    @property
    def complete(self) -> bool:
        """Whether every sample was seen."""
        return self.n == self.total


class _Columns:
    """Columns of a plan that grow chunk by chunk."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Tensor]] = []
        self.n = 0

    def table(self, n: int) -> Table:
        if len(self.parts) > 1:
            self.parts = [{key: torch.cat([one[key] for one in self.parts]) for key in self.parts[0]}]
        return Table({key: column[:n] for key, column in self.parts[0].items()})


def edges(total: int, looks: Sequence[int], exactly: bool) -> list[int]:
    """Where a scan looks: with ``exactly`` at the engine's own chunk edges, else at 64, 512, 1024 ... and the end."""
    if exactly:
        return list(looks)
    out, at = [GLANCE] if total > GLANCE else [], FIRST_LOOK
    while at < total:
        out.append(at)
        at *= 2
    return [*out, total]


class Scan:
    """Plans beside a base plan on one engine. ``steps`` does one chunk of all that is not settled, then says so.

    samples: only so many, the first of the split's stratified order.
    """

    def __init__(
        self, run: Engine, base: Plan, plans: Sequence[Plan], split: str, tolerance: float | None, samples: int | None = None
    ) -> None:
        self.run, self.base, self.split, self.tolerance = run, base, split, tolerance
        self.plans = {plan.digest: plan for plan in plans}
        self.data = run.data(split)
        self.total = min(samples or self.data.total, self.data.total)
        self.edges = [self.total] if samples else edges(self.data.total, self.data.looks, tolerance is None)
        self.within = Within.looks(self.data.total, sum(FIRST_LOOK <= edge < self.data.total for edge in self.edges))
        self.columns = {digest: _Columns() for digest in self.plans}
        self.columns.setdefault(base.digest, _Columns())
        self.settled: set[str] = set()
        self.metric = ""  # the main one's name, once something was seen
        self.evaluated = 0  # samples times plans: tests count them
        self._estimates: dict[tuple[str, int], Estimate] = {}

    @property
    def work_done(self) -> tuple[int, int]:
        """(samples seen of all plans, those to see at most)."""
        seen = sum(self.total if d in self.settled else self.columns[d].n for d in self.plans)
        return seen, self.total * len(self.plans)

    def steps(self, work: Work) -> Iterator[int]:
        """Yields the number of samples seen after each chunk. Raises :class:`Cancelled`; call again to go on."""
        for start, stop in zip([0, *self.edges], self.edges, strict=False):
            todo = [d for d in self.plans if d not in self.settled and self.columns[d].n == start]
            behind = [self.base.digest] if self.columns[self.base.digest].n == start else []
            todo = list(dict.fromkeys([*behind, *todo]))
            if not todo:
                continue
            self._chunk(todo, start, stop, work)
            for digest in todo:
                if digest in self.plans and self._is_settled(digest):
                    self.settled.add(digest)
            yield stop

    def _is_settled(self, digest: str) -> bool:
        if self.columns[digest].n >= self.total:
            return True
        if self.tolerance is None or self.columns[digest].n < FIRST_LOOK:
            return False
        found = self.estimate(digest).within
        return found is not None and found[1] - found[0] <= 2 * self.tolerance

    def estimate(self, digest: str) -> Estimate:
        """What is known of a plan; at least one chunk was seen."""
        n = self.columns[digest].n
        key = (digest, n)
        if key not in self._estimates:
            metrics, table = self.run.metrics, self.columns[digest].table(n)
            before = self.columns[self.base.digest].table(n)
            values = metrics.figures(table, self.split)
            self.metric = main = next(iter(values))
            change = metrics.changes(before, table, self.split)[main]
            sharp = change if n >= self.data.total else metrics.changes(before, table, self.split, self.within)[main]
            within = None if sharp.low is None or sharp.high is None else (sharp.low, sharp.high)
            self._estimates[key] = Estimate(digest, n, self.data.total, values[main], change, within)
        return self._estimates[key]

    def _job(self, plan: Plan, work: Work) -> Job:
        """From where the plan differs from the base, if that can be replayed."""
        jobs, state, other = self.run.jobs, plan.state, self.base.state
        names = frozenset(n for n in {*state, *other} if state.get(n) != other.get(n))
        runner = jobs.runner
        if not names or not runner.supports({*state, *other}) or runner.unsafe:
            return (
                jobs.whole(plan)
                if runner.supports(state)
                else jobs.full(plan, say("this plan changes what cannot be replayed"))
            )
        return jobs.between(plan, names, self.run.checked(work))

    @torch.inference_mode()
    def _chunk(self, todo: list[str], start: int, stop: int, work: Work) -> None:
        """Columns of samples start .. stop of several plans."""
        run, data = self.run, self.data
        jobs = {d: self._job(self.plans.get(d, self.base), work) for d in todo}
        size = stop - start
        ranges = [(a, min(a + run.batch, size)) for a in range(0, size, run.batch)]
        pieces: dict[str, list[dict[str, Tensor]]] = {d: [] for d in todo}

        def session(job: Job) -> Any:
            @contextmanager
            def opened() -> Iterator[Any]:
                if work.cancel is not None and work.cancel():
                    raise Cancelled(
                        say(
                            "{subject}: cancelled after {n} of {total} samples",
                            subject=run.subject.name,
                            n=start,
                            total=data.total,
                        )
                    )
                with run.queue.turn(work.request), lend(run.replica, job) as module, exact(run.device):
                    yield module

            return opened

        def within(first: int, last: int, batches: list[tuple[int, int]]) -> None:
            inputs, targets = data.chunk(first, last)

            def finish(digest: str) -> Callable[[int, int, Any], None]:
                def tell(a: int, b: int, outputs: Any) -> None:
                    run.judge.refuse_nan(outputs, data, first + a)
                    own = targets if b - a == last - first else part(targets, slice(a, b))
                    pieces[digest].append(run.judge.columns(outputs, own, data, first + a, first + b))

                return tell

            base = run.jobs.whole(self.base) if run.jobs.runner.supports(self.base.state) else run.jobs.full(self.base)
            many = [Run(job.which, session(job), finish(d)) for d, job in jobs.items() if job.which is not None]
            for d, job in jobs.items():
                if job.which is None:
                    job.runner.run(None, inputs, batches, session(job), finish(d), None)
            if many:
                run.jobs.runner.run_many(many, session(base), inputs, batches)

        try:
            if data.whole and (run.jobs.runner.joins or run.jobs.runner.tier != "graph"):
                within(start, stop, ranges)
            else:
                for a, b in ranges:
                    within(start + a, start + b, [(0, b - a)])
        except ExplorerError:
            raise
        except Exception as error:
            first = data.order[start:stop][:3].tolist()
            where = say(
                "{subject}: forward failed on {split} samples {first}...",
                subject=run.subject.name,
                split=data.split,
                first=first,
            )
            raise EvaluationError(say("{where}: {cause}", where=where, cause=cause(error))) from error
        for digest, found in pieces.items():
            own = self.columns[digest]
            own.parts.append(
                {key: torch.cat([one[key] for one in found]) for key in found[0]} if len(found) > 1 else found[0]
            )
            own.n = stop
            self.evaluated += size


def scan_of(
    run: Engine, base: Plan, plans: Sequence[Plan], split: str, tolerance: float | None, samples: int | None = None, resume: bool = True
) -> Scan:
    """A scan of these plans; one that was begun before is taken up again, unless ``resume`` is False."""
    key = (base.digest, tuple(plan.digest for plan in plans), split, tolerance, samples)
    kept: dict[Any, Scan] = run.__dict__.setdefault("_scans", {})
    earlier = kept.pop(key, None)
    found = earlier if earlier is not None and resume else Scan(run, base, plans, split, tolerance, samples)
    kept[key] = found
    while len(kept) > KEPT_SCANS:
        kept.pop(next(iter(kept)))
    return found

