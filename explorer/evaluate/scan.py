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
from .allocation import Allocation
from .chunk import Chunk
from .design import Design, Proportional, Stratified
from .engine import Engine
from .jobs import Job
from .metrics import Table
from .runners import Run, Runner
from .seen import Work
from .stopping import FIRST_LOOK, IN_STRATA, Looks, quantile

GLANCE = 64  # samples after which all points are known roughly, so that something can be shown
AT_ONCE = 4096  # samples of an adaptive scan's chunk, at most
KEPT_SCANS = 4


@dataclass(frozen=True)
class Estimate:
    """What a scan knows of one plan from its first ``n`` samples: its metric, and the change from the base.

    Both with intervals that speak of samples not in the split. They are those of an evaluation of ``n`` samples, or narrower where an
    adaptive scan chose them (:mod:`.allocation`). within: the change of the *whole split* lies there, at all looks of the scan together
    (by it a point is finished); None without an interval.
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

    @classmethod
    def of(cls, columns: Table, n: int) -> _Columns:
        """What is known already."""
        made = cls()
        made.parts, made.n, made._tables = [dict(columns)], n, {n: columns}
        return made


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
        self.sampled = samples is not None
        self.edges = [self.total] if self.sampled else self.data.looks if tolerance is None else [GLANCE, FIRST_LOOK]
        self._whole = Proportional(run.metrics, split, self.data.total)
        self.design: Design = self._whole
        self._undecided = tolerance is not None and not self.sampled and self.total > FIRST_LOOK  # how to sample
        self.looks = {plan.digest: Looks() for plan in plans}
        self.columns = {digest: _Columns() for digest in self.plans}
        self.columns.setdefault(base.digest, _Columns())
        self.settled: set[str] = set()
        self.metric = ""  # the main one's name, once something was seen
        self.evaluated = 0  # samples times plans: tests count them
        self._estimates: dict[tuple[str, int, int], Estimate] = {}
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
                start = min(self.columns[d].n for d in todo)
                if self._undecided and start == GLANCE:
                    self._choose(work)
                    continue
                ends = self._ends(start, todo, work)
                stop = max(ends.values())
                behind = self._behind(start, stop, work)
                self.run.fitting(partial(self._chunk, {**dict.fromkeys(behind, stop), **ends}, start, work))
                self.settled |= {digest for digest in ends if self._is_settled(digest, work)}
                self._jobs = {key: job for key, job in self._jobs.items() if key[0] not in self.settled}
                yield stop
        finally:
            self._jobs.clear()  # they hold weights, and a scan that was left is kept

    def _ends(self, start: int, todo: Sequence[str], work: Work) -> dict[str, int]:
        """Where the next chunk ends for each plan that is at its start: for all at the nearest edge, or for each at its own goal, where that is no more work."""
        mine = [d for d in todo if self.columns[d].n == start]
        seen = [self.columns[d].n for d in (*todo, self.base.digest)]
        ahead = [n for n in (*self.edges, *seen, self.total) if start < n <= self.total]
        if self.tolerance is None:
            return dict.fromkeys(mine, min(ahead))
        ahead.append(start + AT_ONCE)
        goals = {d: self.looks[d].goal for d in mine}
        if start >= FIRST_LOOK and self._may_end_anywhere(mine, work):
            return {d: min(goal, *ahead) for d, goal in goals.items()}
        return dict.fromkeys(mine, min(*goals.values(), *ahead))

    def _may_end_anywhere(self, digests: Sequence[str], work: Work) -> bool:
        """Whether each of these plans may end a chunk at its own goal."""

        def may(runner: Runner, mine: Sequence[str]) -> bool:
            parts = [self._job(self.plans[d], runner, work).which for d in mine]
            return runner.ends_anywhere(one for one in parts if one is not None) and None not in parts

        return self.data.whole and all(may(*one) for one in self._by_runner(digests).items())

    def _behind(self, start: int, stop: int, work: Work) -> list[str]:
        """The base, if it must be seen with the plans: not where its evaluation has the same chunks, and is perhaps there already."""
        mine = self.columns[self.base.digest]
        if mine.n != start:
            return []
        if self.tolerance is not None or self.sampled or self.base.digest in self.plans:
            return [self.base.digest]
        seen = self.run.ensure(self.base, self.split, stop, work).columns(stop)
        mine.parts.append({name: column[start:stop] for name, column in seen.items()})
        mine.n = stop
        return []

    def _choose(self, work: Work) -> None:
        """From here on see the samples first whose answers change easily, if the base's answers tell them."""
        metrics, base = self.run.metrics, self.base
        known = self.columns[base.digest].table(GLANCE)
        self._undecided = metrics.right(known) is not None and metrics.certainty(known) is not None
        if not self._undecided:
            return
        every = self.run.ensure(base, self.split, self.total, work).columns(self.total)
        certainty = metrics.certainty(every)
        assert certainty is not None
        kinds = metrics.kinds(every)
        allocation = Allocation(certainty.numpy(force=True), GLANCE, None if kinds is None else kinds.numpy(force=True))
        places = torch.from_numpy(allocation.order)
        ordered = Table({name: column[places] for name, column in every.items()})
        right = metrics.right(ordered)
        assert right is not None
        self.columns[base.digest] = _Columns.of(ordered, self.total)
        self.data = self.data.reordered(places)
        self.design = Stratified(metrics, self.split, allocation, right)
        self.looks = {digest: Looks(IN_STRATA) for digest in self.looks}  # none was taken
        self.settled |= self.plans.keys() & {base.digest}
        self._estimates.clear()
        self._undecided = False

    def _is_settled(self, digest: str, work: Work) -> bool:
        n = self.columns[digest].n
        if n >= self.total:
            return True
        looks = self.looks[digest]
        if self.tolerance is None or n != looks.goal:
            return False
        tables, again = self._tables(digest), not self._may_end_anywhere([digest], work)  # a goal of its own is a chunk of its own
        within, widths = partial(self.design.within, *tables), partial(self.design.widths, *tables)
        return looks.settled(n, self.total, self.tolerance, within, widths, again)

    def _tables(self, digest: str) -> tuple[Table, Table]:
        """What the base and a plan answered to as many samples as were seen of the plan."""
        n = self.columns[digest].n
        return self.columns[self.base.digest].table(n), self.columns[digest].table(n)

    def estimate(self, digest: str) -> Estimate:
        """What is known of a plan; at least one chunk was seen."""
        n, errors = self.columns[digest].n, self.looks[digest].errors
        looks = max(0, self.looks[digest].taken - (digest in self.settled))
        key = (digest, n, looks)
        if key not in self._estimates:
            tables, total = self._tables(digest), self.data.total
            whole = self._whole if n >= total else self.design
            self.metric, value, change = whole.main(*tables)
            sure = whole.within(*tables, quantile(min(looks, len(errors) - 1), errors))
            self._estimates[key] = Estimate(digest, n, total, value, change, sure)
        return self._estimates[key]

    @torch.inference_mode()
    def _chunk(self, ends: dict[str, int], start: int, work: Work) -> None:
        """Columns of samples from ``start`` on of several plans, of each to its end."""
        run, data, stop = self.run, self.data, max(ends.values())
        chunk = Chunk(run, data, (start, stop), work)
        for runner, mine in self._by_runner(list(ends)).items():
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
                            rows = ends[d] - start if ends[d] < stop else None
                            runs.append(Run(job.which, chunk.session(job), finish, rows))
                    if runs:
                        runner.run_many(runs, chunk.session(base), inputs, batches)
        for digest, end in ends.items():
            self.columns[digest].parts.append(chunk.columns(digest))
            self.columns[digest].n = end
            self.evaluated += end - start

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
