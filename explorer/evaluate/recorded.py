"""Drags of small models as one recorded replay a chunk: a CUDA graph of what depends on the change, from values in front that are copied in.

A graph holds addresses, while a plan swaps weights by address. So everything that a part reads and that may be another one next time, the
values in front and the weights, is copied into tensors of the recording's own first. No recording is believed: what it gives must be, to the last bit, what
the same nodes give without it, on the values at hand, on others for every weight and every value, and on the first ones again.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from ..core.errors import Cancelled, EvaluationError, cause
from ..core.message import say
from ..models.memo import PLAIN, nbytes
from ..models.replica import Replica
from .jobs import Job, lend
from .recorder import Recorder, Recording, rehearsal
from .runners import Finish, GraphRunner, Ranges, Session

ON_USE = 2  # of a part on a shape: what is asked for once is not worth a recording
KEPT = 32
COUNTED = 256  # parts whose uses are counted
FASTER = 0.9  # of the time without it, copies included, that a replay may take


Turn = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, eq=False)
class _Kept:
    """A recording and the tensors that it reads: copies of the leaves ``at`` of (inputs, kept), and of the weights ``names``."""

    recording: Recording
    at: list[int]
    own: list[Tensor]
    names: list[str]
    weights: list[Tensor]

    @property
    def bytes(self) -> int:
        return self.recording.bytes + nbytes(self.own)

    def replayed(self, leaves: Sequence[Any], weights: Mapping[str, Tensor]) -> Any:
        """What it gives for these values and weights, in memory of its own."""
        for own, i in zip(self.own, self.at, strict=True):
            own.copy_(leaves[i])
        if self.names:
            torch._foreach_copy_(self.weights, [weights[name] for name in self.names])
        return tree_map_only(Tensor, torch.clone, self.recording.replay())

    def takes(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether the weights lie in memory as those of the recording do, so that the same kernels are chosen."""
        return all(
            _form(weights[name])[:3] == _form(own)[:3] for name, own in zip(self.names, self.weights, strict=True)
        )


class Recorded:
    """Runs jobs, by a recording where there is one. recorder None: never. budget: bytes of all recordings of an engine."""

    def __init__(self, replica: Replica, recorder: Recorder | None, budget: int) -> None:
        self.replica, self.recorder, self.budget = replica, recorder, budget
        self.reason = ""  # why there are none any more
        self.replays = 0  # tests count them
        self._weights: dict[str, Tensor] = {}  # what recordings read in place of the module's: one copy for all of them
        self._kept: OrderedDict[Any, _Kept | None] = OrderedDict()  # None: not worth it
        self._uses: Counter[Any] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(one is not None for one in self._kept.values())

    def run(
        self, job: Job, inputs: Any, ranges: Ranges, session: Session, finish: Finish, kept: Any, turn: Turn
    ) -> Any:
        """As :meth:`Runner.run`. turn: lends the device for making a recording, which is no part of the evaluation's time."""
        key = None if self.recorder is None else self._key(job, inputs, ranges, kept)
        if key is None:
            return job.runner.run(job.which, inputs, ranges, session, finish, kept)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        if found is not None:
            with session():
                weights = self._now(found.names)
                if found.takes(weights):
                    self.replays += 1
                    finish(0, ranges[-1][1], found.replayed(tree_leaves([inputs, kept]), weights))
                    return kept
        made = job.runner.run(job.which, inputs, ranges, session, finish, kept)
        if key not in self._kept:
            if len(self._uses) >= COUNTED:
                self._uses.clear()
            self._uses[key] += 1
            if self._uses[key] >= ON_USE:
                self._record(key, job, inputs, ranges, kept, turn)
        return made

    def clear(self) -> None:
        """Give all memory back."""
        with self._lock:
            self._kept.clear()
            self._uses.clear()
            self._weights = {}

    def _key(self, job: Job, inputs: Any, ranges: Ranges, kept: Any) -> Any:
        """Equal where a recording serves; None where none can: modules that a plan makes run differently inside, values unknown to us."""
        if kept is None or job.which is None or self.replica.layered is not None:
            return None
        if not isinstance(job.runner, GraphRunner) or job.plan.norms or job.plan.inputs:
            return None
        leaves, spec = tree_flatten([inputs, kept])
        if not all(isinstance(one, Tensor) or type(one) in PLAIN for one in leaves):
            return None
        return job.runner, job.which.key, tuple(ranges), str(spec), tuple(map(_form, leaves))

    def _now(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: self.replica.names[name].data for name in names}

    @contextmanager
    def _lent(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block the module, which is ours for now, computes with other weights."""
        before = self._now(weights)
        try:
            for name, one in weights.items():
                self.replica.names[name].data = one
            yield
        finally:
            for name, one in before.items():
                self.replica.names[name].data = one

    def _record(self, key: Any, job: Job, inputs: Any, ranges: Ranges, kept: Any, turn: Turn) -> None:
        """Make a recording and compare it. Whatever goes wrong ends it for this model, which is then run as it was before."""
        found, recorder = None, self.recorder
        try:
            if recorder is not None:
                with turn(), lend(self.replica, job):
                    found = self._made(recorder, job, inputs, ranges, kept)
        except Cancelled:
            raise
        except Exception as error:
            self.reason = say("no CUDA graphs: {cause}", cause=cause(error, 120))
            self.recorder = None
            self.clear()
            return
        with self._lock:
            self._uses.pop(key, None)
            self._kept[key] = found
            while (
                len(self._kept) > KEPT or sum(one.bytes for one in self._kept.values() if one is not None) > self.budget
            ):
                self._kept.popitem(last=False)

    def _made(self, recorder: Recorder, job: Job, inputs: Any, ranges: Ranges, kept: Any) -> _Kept | None:
        """A recording that was compared; None where it is not worth its memory or time."""
        runner, which = job.runner, job.which
        assert isinstance(runner, GraphRunner) and which is not None and which.section is not None
        names = [
            name for name, one in self._now(runner.graph.read_by(which.section)).items() if one.is_floating_point()
        ]
        leaves, spec = tree_flatten([inputs, kept])
        unread = runner.unread(which.section, inputs)
        at = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and id(leaf) not in unread]
        if nbytes([leaves[i] for i in at]) > self.budget:
            return None
        now = self._now(names)
        with torch.inference_mode(False):
            own = {i: torch.empty_like(leaves[i]) for i in at}
            mine = {name: self._weights.setdefault(name, torch.empty_like(one)) for name, one in now.items()}

        def compute(leaves: Sequence[Any], weights: Mapping[str, Tensor]) -> Any:
            with self._lent(weights):
                given, front = tree_unflatten(leaves, spec)
                return runner.behind(which, given, ranges, front)

        other = {i: _rolled(leaves[i]) for i in at}
        first = leaves, now
        second = [other.get(i, leaf) for i, leaf in enumerate(leaves)], {name: _other(one) for name, one in now.items()}
        with rehearsal(recorder.device):
            compute(*first)
        recording = recorder.record(partial(compute, [own.get(i, leaf) for i, leaf in enumerate(leaves)], mine))
        found = _Kept(recording, at, list(own.values()), names, list(mine.values()))
        expected = [compute(*first), compute(*second)]
        if _same(*expected):
            raise EvaluationError(say("other weights made no difference, so that nothing could be compared"))
        for values, answer in zip((first, second, first), (*expected, expected[0]), strict=True):
            if not _same(answer, found.replayed(*values)):
                raise EvaluationError(say("a replay differed from the same operations one by one"))
        alone, replayed = (recorder.seconds(partial(work, *first)) for work in (compute, found.replayed))
        return found if replayed <= FASTER * alone and found.bytes <= self.budget else None


def _form(leaf: Any) -> Any:
    """What a recording depends on of a tensor that is copied in, and of a value that is none."""
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.shape, leaf.stride(), leaf.dtype, leaf.data_ptr() % 16  # kernels are chosen by alignment, too


def _other(weight: Tensor) -> Tensor:
    """Another weight: every entry smaller by a share of its own, so that zeros and signs stay."""
    share = torch.linspace(0.6, 0.95, weight.numel(), device=weight.device, dtype=weight.dtype)
    return torch.empty_like(weight).copy_(weight * share.view(weight.shape))


def _rolled(value: Tensor) -> Tensor:
    """The same values, of another sample each."""
    return torch.empty_like(value).copy_(value.roll(1, 0) if value.ndim else value)


def _same(one: Any, other: Any) -> bool:
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) if isinstance(a, Tensor) else a == b for a, b in pairs)
