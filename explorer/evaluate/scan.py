"""Many plans on the same samples: chunk by chunk, one pass of what they share, then each from where it begins to differ.

All of them sharpen together, nothing is held but one chunk's values, and a scan that was cancelled goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..compress.plan import Plan
from ..core.report import Figure
from .chunk import Chunk
from .engine import Engine
from .intervals import Within
from .jobs import Job
from .metrics import Table
from .runners import Run, Runner
from .seen import Work
from .stopping import FIRST_LOOK, last, look, second_look

GLANCE = 64  # samples after which all points are known roughly, so that something can be shown
AT_ONCE = 4096  # samples of an adaptive scan's chunk, at most
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
        self._tables: dict[int, Table] = {}

    def table(self, n: int) -> Table:
        if n not in self._tables:
            if len(self.parts) > 1:
                self.parts = [{key: torch.cat([one[key] for one in self.parts]) for key in self.parts[0]}]
            self._tables = {n: Table({key: column[:n] for key, column in self.parts[0].items()})}
        return self._tables[n]


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
        self.edges = [self.total] if samples else self.data.looks if tolerance is None else [GLANCE, FIRST_LOOK]
        self.goals: dict[str, int] = {}  # samples of the second look of plans that a first one did not settle
        self.columns = {digest: _Columns() for digest in self.plans}
        self.columns.setdefault(base.digest, _Columns())
        self.settled: set[str] = set()
        self.metric = ""  # the main one's name, once something was seen
        self.evaluated = 0  # samples times plans: tests count them
        self._estimates: dict[tuple[str, int], Estimate] = {}
        self._jobs: dict[tuple[str, int], Job] = {}

    @property
    def work_done(self) -> tuple[int, int]:
        """(samples seen of all plans, those to see at most)."""
        seen = sum(self.total if d in self.settled else self.columns[d].n for d in self.plans)
        return seen, self.total * len(self.plans)

    def steps(self, work: Work) -> Iterator[int]:
        """Yields the number of samples seen after each chunk. Raises :class:`Cancelled`; call again to go on."""
        try:
            while todo := [d for d in self.plans if d not in self.settled]:
                start = self.columns[todo[0]].n
                stop = self._next(start, todo)
                behind = [self.base.digest] if self.columns[self.base.digest].n == start else []
                self.run.fitting(partial(self._chunk, list(dict.fromkeys([*behind, *todo])), start, stop, work))
                self.settled |= {digest for digest in todo if self._is_settled(digest)}
                self._jobs = {key: job for key, job in self._jobs.items() if key[0] not in self.settled}
                yield stop
        finally:
            self._jobs.clear()  # they hold weights, and a scan that was left is kept

    def _next(self, start: int, todo: Sequence[str]) -> int:
        """Where the next chunk ends."""
        ahead = [edge for edge in self.edges if start < edge < self.total]
        ahead += [self.goals[d] for d in todo if d in self.goals]
        return min([*ahead, self.total if self.tolerance is None else start + AT_ONCE, self.total])

    def _is_settled(self, digest: str) -> bool:
        n = self.columns[digest].n
        if n >= self.total:
            return True
        if self.tolerance is None or n not in (FIRST_LOOK, self.goals.get(digest)):
            return False
        found = self.estimate(digest).within
        if found is not None and found[1] - found[0] <= 2 * self.tolerance:
            return True
        self.goals[digest] = self._second_look(digest) if n == FIRST_LOOK and found is not None else self.total
        return False

    def _second_look(self, digest: str) -> int:
        """Of a plan that was looked at for the first time."""
        n, total = self.columns[digest].n, self.data.total
        change = self._main(digest, last(total))[2]
        assert change.low is not None and change.high is not None and self.tolerance is not None
        return second_look(change.high - change.low, n, total, self.tolerance)

    def _main(self, digest: str, within: Within | None = None) -> tuple[str, Figure, Figure]:
        """The main metric of a plan on what was seen of it, and its change."""
        n = self.columns[digest].n
        before, after = (self.columns[d].table(n) for d in (self.base.digest, digest))
        return self.run.metrics.main(before, after, self.split, within)

    def estimate(self, digest: str) -> Estimate:
        """What is known of a plan; at least one chunk was seen."""
        n = self.columns[digest].n
        key = (digest, n)
        if key not in self._estimates:
            self.metric, value, change = self._main(digest)
            sharp = change if n >= self.data.total else self._main(digest, look(self.data.total, n))[2]
            within = None if sharp.low is None or sharp.high is None else (sharp.low, sharp.high)
            self._estimates[key] = Estimate(digest, n, self.data.total, value, change, within)
        return self._estimates[key]

    @torch.inference_mode()
    def _chunk(self, todo: list[str], start: int, stop: int, work: Work) -> None:
        """Columns of samples start .. stop of several plans."""
        run, data = self.run, self.data
        chunk = Chunk(run, data, start, stop, work)
        for runner, mine in self._by_runner(todo).items():
            base = self._job(self.base, runner, work)
            made = {d: self._job(self.plans.get(d, self.base), runner, work) for d in mine}
            with chunk.named():
                for first, last, batches in chunk.pieces(runner):
                    inputs, targets = data.chunk(first, last)
                    runs = []
                    for d, job in made.items():
                        finish = chunk.finish(d, first, last, targets)
                        if job.which is None:
                            job.runner.run(None, inputs, batches, chunk.session(job), finish, None)
                        else:
                            runs.append(Run(job.which, chunk.session(job), finish))
                    if runs:
                        runner.run_many(runs, chunk.session(base), inputs, batches)
        for digest in todo:
            self.columns[digest].parts.append(chunk.columns(digest))
            self.columns[digest].n = stop
            self.evaluated += stop - start

    def _job(self, plan: Plan, runner: Runner, work: Work) -> Job:
        """How a plan is run, settled once a scan, as long as it is not known to be unsafe."""
        key = (plan.digest, id(runner))
        found = self._jobs.get(key)
        if found is None or found.runner.unsafe:
            found = self._jobs[key] = self.run.jobs.between(plan, self.base, runner, self.run.checked(work))
        return found

    def _by_runner(self, todo: Sequence[str]) -> dict[Runner, list[str]]:
        """The plans by what :func:`explorer.evaluate` would run them with, so that their figures are the same."""
        found: dict[Runner, list[str]] = {}
        for digest in todo:
            found.setdefault(self.run.jobs.runner_of(self.plans.get(digest, self.base)), []).append(digest)
        return found


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
