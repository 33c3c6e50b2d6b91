"""Which part of a module a plan makes run again, and whether that part can be believed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..compress.apply import effective_weights
from ..compress.lazy import Lazy
from ..compress.plan import Plan
from ..core.errors import Cancelled
from ..core.message import say
from ..models.replica import Replica
from ..models.subject import Subject
from ..models.trial import difference, tensors
from .runners import Part, Runner, counting_versions
from .tiers import stirred, tolerance

RECENT = 16  # plans among which the next one's neighbour is looked for
CHECKED = 8  # samples on which a replay is compared with the plain module before it is believed

T = TypeVar("T")
Check = Callable[[], tuple[Any, AbstractContextManager[Any]]]


@dataclass(eq=False)
class Job:
    """A plan made ready for one engine. which None: all of the module runs. group: names the values in front."""

    plan: Plan
    weights: Mapping[str, Tensor]
    runner: Runner
    which: Part | None = None
    group: Hashable = None


def lend(replica: Replica, job: Job, but: frozenset[str] = frozenset()) -> AbstractContextManager[nn.Module]:
    """The module as a job's plan changes it, except what ``but`` names: the one place where a plan meets the module."""
    if not but:
        return replica.weights(job.weights, job.plan.norms, job.plan.roundings())

    def rest(found: Mapping[str, T]) -> dict[str, T]:
        return {name: one for name, one in found.items() if name not in but}

    weights = Lazy(
        [name for name in job.weights if name not in but], job.weights.__getitem__
    )  # looked up by the replica
    return replica.weights(weights, rest(job.plan.norms), rest(job.plan.roundings()))


def _differing(state: Mapping[str, str], other: Mapping[str, str]) -> frozenset[str]:
    """The names at which two plans' states differ."""
    return frozenset([name for name, _ in state.items() ^ other.items()])


class Jobs:
    """The jobs of one engine. token: names the engine. make(plain): a runner, of the module's own nodes alone if ``plain``."""

    def __init__(self, subject: Subject, replica: Replica, make: Callable[[bool], Runner], token: int) -> None:
        self.subject, self.replica, self.make, self.token = subject, replica, make, token
        self.version = subject.version
        self._runners: dict[bool, Runner] = {}
        self._recent: deque[Mapping[str, str]] = deque(maxlen=RECENT)
        self._trusted: dict[Hashable, bool] = {}
        self._lock = threading.Lock()

    @property
    def runner(self) -> Runner:
        """What runs plans that change weights."""
        return self.runner_of()

    def runner_of(self, *plans: Plan) -> Runner:
        """What runs all of these plans. Roundings of activations happen inside of modules, as do answers of modules that are gone,
        which rewritten nodes pass by; and a rewrite's last bit may take a value over the edge between two levels."""
        plain = any(plan.inputs for plan in plans) or not all(self.runner.supports(plan.norms) for plan in plans if plan.norms)
        plain = plain and self.runner.rewritten
        if plain not in self._runners:
            with counting_versions():
                made = self.make(plain)
            with self._lock:
                self._runners.setdefault(plain, made)
        found = self._runners[plain]
        if found.unsafe:
            found = self._runners[plain] = Runner(self.replica, self.subject.task, found.unsafe)
        return found

    def weights(self, plan: Plan) -> Mapping[str, Tensor]:
        """{layer: effective weight} in the replica's dtype and layout, kept by content; of large models made when it is looked up."""
        found, replica = effective_weights(self.subject, plan), self.replica
        if replica.layered is not None:
            return found
        if replica.dtype is None and not replica.channels_last and replica.device.type == "cpu":
            return dict(found)
        memo, settings = self.subject.memo, (str(replica.device), replica.dtype, replica.channels_last)

        def one(name: str) -> Tensor:
            key = ("moved", self.version, name, plan.layers[name].digest, settings)
            return memo.get(key, lambda: replica.convert(found[name]))

        return {name: one(name) for name in plan.layers} | dict(plan.tensors)

    def whole(self, plan: Plan) -> Job:
        """The plan with all of the module run, in the same batches, layout and order as its parts would be."""
        return Job(plan, self.weights(plan), self.runner_of(plan))

    def full(self, plan: Plan, why: str = "") -> Job:
        """The plan with all of the module run as it is."""
        return Job(plan, self.weights(plan), Runner(self.replica, self.subject.task, why))

    def job(self, plan: Plan, split: str, check: Check) -> Job:
        """The smallest part in which the plan differs from the original or from a plan seen lately: the next move of the same
        drag will differ there, too, and finds the values in front kept. check: gives a few samples' inputs and lends the device.
        """
        runner, state = self.runner_of(plan), plan.state
        if not state:
            return self.whole(plan)
        if not runner.supports(state):
            return self.full(plan, say("this plan changes what cannot be replayed"))
        job = self.whole(plan)
        with self._lock:
            neighbours: list[Mapping[str, str]] = [{}, *self._recent]
        seen: dict[frozenset[str], Part] = {}
        for other in neighbours:
            names = _differing(state, other)
            if names and names not in seen:
                found = runner.part(names)
                if found is None:
                    return job
                seen[names] = found
        if seen:
            job.which = min(seen.values(), key=lambda one: one.size)
            job.group = self._group(job, split)
            if not self._trust(job, check):
                return self.full(plan, runner.unsafe or runner.reason)
        return job

    def between(self, plan: Plan, base: Plan, runner: Runner, check: Check) -> Job:
        """A plan run from where it differs from ``base``, if that can be replayed and believed. runner: what runs both."""
        state, other = plan.state, base.state
        if not runner.supports({*state, *other}):
            return self.full(plan, say("this plan changes what cannot be replayed"))
        job = Job(plan, self.weights(plan), runner)
        names = _differing(state, other)
        job.which = runner.part(names) if names else None
        if job.which is not None and not self._trust(job, check):
            return self.full(plan, runner.reason)
        return job

    def remember(self, plan: Plan) -> None:
        """The next plan may differ from this one in little."""
        state = plan.state
        if state and self.runner_of(plan).supports(state):
            with self._lock:
                if state in self._recent:
                    self._recent.remove(state)
                self._recent.append(state)

    def _group(self, job: Job, split: str) -> Hashable:
        """Equal where the values in front of a part are: the same plan, as far as they depend on it."""
        assert job.which is not None
        apart, reads, state = job.which.names, job.which.reads, job.plan.state
        behind = frozenset((n, d) for n, d in state.items() if (n not in apart if reads is None else n in reads))
        return (self.token, job.runner, job.which.key, behind, split)

    def _trust(self, job: Job, check: Check) -> bool:
        """Compare a part, once, with the plain module: values in front of it from the *original* of what changed, which is changed by more than
        this plan may change it: the first move of a drag would be no test."""
        assert job.which is not None
        key, names = (job.runner, job.which.key), job.which.names
        if key in self._trusted:
            return self._trusted[key]
        inputs, turn = check()
        ranges = [(0, CHECKED)]
        found: list[Any] = []

        def tell(_: int, __: int, outputs: Any) -> None:
            found.append(outputs)

        base = {name: self.replica.names[name].data for name in names if isinstance(self.replica.names.get(name), nn.Parameter)}
        given = Lazy(
            {**job.weights, **base},
            lambda name: stirred(job.weights.get(name, base[name])) if name in base else job.weights[name],
        )
        tried = Job(job.plan, given, job.runner, job.which)

        def run(runner: Runner, which: Part | None, but: frozenset[str] = frozenset(), kept: Any = None) -> Any:
            return runner.run(which, inputs, ranges, lambda: lend(self.replica, tried, but), tell, kept)

        try:
            with torch.inference_mode(), turn:
                kept = run(job.runner, job.which, names)
                run(job.runner, job.which, kept=kept)
                run(Runner(self.replica, self.subject.task), None)
        except Cancelled:
            raise
        except Exception:
            return False  # in full, where an error names its sample; not held against the part
        if not all(bool(torch.isfinite(t).all()) for t in tensors(found[2])):
            return False
        if job.runner.unsafe:
            return False
        gap = difference(found[2], found[1])
        self._trusted[key] = gap <= tolerance(self.replica.dtype)
        if not self._trusted[key]:
            job.runner.reason = say("a replay differed from the whole module by {gap:.1e}", gap=gap)
        return self._trusted[key]
