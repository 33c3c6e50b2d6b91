"""How a chunk is computed: from a graph's section, by the order of calls, or in full. The surest that is safe is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..models.memo import nbytes
from ..models.onnx_module import opaque
from ..models.replica import Replica, share
from ..models.task import Task, call, copied, part
from ..models.trial import tensors
from .graph import Graph, Section, put_together
from .prefixes import BUDGET

Ranges = Sequence[tuple[int, int]]
Session = Callable[[], AbstractContextManager[nn.Module]]
Finish = Callable[[int, int, Any], None]


def batch(inputs: Any, ranges: Ranges, start: int, stop: int) -> Any:
    """The inputs of one of a chunk's ranges; of the only one, all as they are."""
    return inputs if len(ranges) == 1 else part(inputs, slice(start, stop))


@dataclass(frozen=True, eq=False)
class Part:
    """What a change of some names needs to be run again. key: equal where the values in front are the same ones.

    reads: names that the values in front depend on; None: on all but the changed ones.
    """

    names: frozenset[str]
    key: Any
    size: int
    reads: frozenset[str] | None = None
    section: Section | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """One of many changes that are run on one chunk. rows: of its first samples alone, where the runner can; None: of all."""

    which: Part | None
    session: Session
    finish: Finish
    rows: int | None = None


class Runner:
    """Runs the whole module on every chunk."""

    tier = "full"

    def __init__(self, replica: Replica, task: Task, reason: str = "", apart: bool = False) -> None:
        self.replica, self.task, self.reason = replica, task, reason
        self.apart = apart  # whether the module keeps what it saw, so that each batch needs one that has seen nothing
        self.joins = False  # whether a chunk is made of several small batches
        self.room = BUDGET  # bytes of values in front that a chunk may hold to have them kept
        self.unsafe = ""  # why it must not be used any more
        self.rewritten = False  # whether some modules' work is done by other nodes
        self.fused = False  # whether some of these do a product and what follows it
        self.mixes = False  # whether an answer depends on the other samples of its batch

    def part(self, names: Iterable[str]) -> Part | None:
        """What must run again when these names change; None: everything."""
        return None

    def supports(self, names: Iterable[str]) -> bool:
        """Whether a change of these names can be replayed."""
        return True

    def run(self, which: Part | None, inputs: Any, ranges: Ranges, session: Session, finish: Finish, kept: Any) -> Any:
        """Run batches ``ranges`` of a chunk's inputs; ``finish(start, stop, outputs)`` is told what came out.

        kept: the values in front as returned by an earlier run on the same chunk, or None. Each batch is computed
        within ``session()``, which lends the device and yields the module with the plan's weights. Returns the values in front;
        None where there are none, or more than ``room``: these are not held longer than a batch.
        """
        for start, stop in ranges:
            with session() as module:
                one = share(module) if self.apart else module
                finish(start, stop, self.task.forward(one, self.given(batch(inputs, ranges, start, stop))))
        return None

    def given(self, inputs: Any) -> Any:
        """Inputs for a forward that may write to them: what is kept of a split is everybody's."""
        if opaque(self.replica.module) is not None:
            return inputs
        with counting_versions():
            return copied(inputs)

    def ends_anywhere(self, parts: Iterable[Part]) -> bool:
        """Whether ``run_many`` may run each of these on so many of a chunk's samples, without work for the others."""
        return False

    def run_many(self, runs: Sequence[Run], base: Session, inputs: Any, ranges: Ranges) -> None:
        """Run many changes on one chunk; values in front are computed once for all that share a part."""
        kept: Any = None
        last: Any = None
        for one in sorted(runs, key=lambda run: repr(sorted(run.which.names)) if run.which else ""):
            if one.which is None or one.which.key != last:
                kept, last = None, one.which.key if one.which else None
            kept = self.run(one.which, inputs, ranges, one.session, one.finish, kept)


class GraphRunner(Runner):
    """Replays the section of a traced graph that depends on what changed."""

    tier = "graph"

    def __init__(self, replica: Replica, task: Task, graph: Graph, reason: str = "") -> None:
        super().__init__(replica, task, reason)
        self.graph = graph
        self.joins, self.rewritten, self.fused = graph.joins, graph.rewritten, graph.fused

    def part(self, names: Iterable[str]) -> Part:
        section = self.graph.section(names)
        return Part(frozenset(names), section.key, len(section.nodes), section.reads, section)

    def supports(self, names: Iterable[str]) -> bool:
        parameters = self.replica.names
        return all(name in parameters or name in self.graph.known for name in names)

    def ends_anywhere(self, parts: Iterable[Part]) -> bool:
        """Where all that changes is run at once, from values that can be cut."""
        rows, sections = self.graph.rows, [one.section for one in parts]
        return self.joins and all(
            one is not None and not one.body and all(node in rows or node.op == "get_attr" for node in one.raised)
            for one in sections
        )

    def run_many(self, runs: Sequence[Run], base: Session, inputs: Any, ranges: Ranges) -> None:
        """One pass of what nothing changes, from which every change branches off where it begins.

        Batch by batch, so that no more than one batch's values in front of all changes are held at a time.
        """
        size, whole = ranges[-1][1], self.bind(inputs)
        sections = {run.which.key: run.which.section for run in runs if run.which is not None and run.which.section}
        assert all(run.which is not None for run in runs)
        keys = list(sections)
        front, up = self.graph.fronts([sections[key] for key in keys])
        crossing: list[tuple[Any, ...]] = []
        raised: list[list[tuple[Any, ...]]] = [[] for _ in runs]
        for start, stop in ranges:
            given = self.bind(batch(inputs, ranges, start, stop))
            with base():
                *values, across = front(*given)
            crossing.append(across)
            below = dict(zip(keys, values, strict=True))
            for run, own in zip(runs, raised, strict=True):
                section = sections[run.which.key]  # type: ignore[union-attr]
                if section.body:
                    with run.session():
                        own.append(section.body(*given, *below[run.which.key][: section.reading]))  # type: ignore[union-attr]
        with base():
            above = dict(zip(keys, up(*whole, *put_together(crossing)), strict=True))
        for run, own in zip(runs, raised, strict=True):
            key = run.which.key  # type: ignore[union-attr]
            section, given, known = sections[key], whole, above[key]
            if run.rows is not None and run.rows < size:
                given = self.bind(part(inputs, slice(0, run.rows)))
                known = tuple(v[: run.rows] if node in self.graph.rows else v for node, v in zip(section.raised, known, strict=True))
            with run.session():
                run.finish(0, run.rows or size, section.head(*given, *known, *(put_together(own) if own else ())))

    def bind(self, inputs: Any) -> list[Any]:
        """The graph's inputs in order, from a task's."""
        if isinstance(inputs, dict):
            return [inputs[str(node.target)] for node in self.graph.inputs]
        return list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]

    def behind(self, which: Part, inputs: Any, ranges: Ranges, kept: Any) -> Any:
        """What :meth:`run` tells ``finish`` of a part, all batches in one go; the module is the caller's."""
        section, whole = which.section, self.bind(inputs)
        assert section is not None
        raised = []
        if section.body:
            for (start, stop), front in zip(ranges, kept[0], strict=True):
                raised.append(section.body(*self.bind(batch(inputs, ranges, start, stop)), *front))
        return section.head(*whole, *kept[1], *(put_together(raised) if raised else ()))

    def unread(self, section: Section, inputs: Any) -> set[int]:
        """Ids of the tensors among the inputs of which a section's nodes read no more than sizes."""
        read = {a for i in section.nodes for a in self.graph.nodes[i].all_input_nodes}
        pairs = zip(self.graph.inputs, self.bind(inputs), strict=False)
        return {id(one) for node, value in pairs if node not in read for one in tensors(value)}

    def run(self, which: Part | None, inputs: Any, ranges: Ranges, session: Session, finish: Finish, kept: Any) -> Any:
        section = (which or self.part(self.graph.known)).section
        assert section is not None
        size, held = ranges[-1][1], 0
        below: list[tuple[Any, ...]] = [] if kept is None else kept[0]
        crossing: list[tuple[Any, ...]] = []
        raised: list[tuple[Any, ...]] = []
        if section.body or (kept is None and section.before):
            for i, (start, stop) in enumerate(ranges):
                given = self.bind(batch(inputs, ranges, start, stop))
                with session():
                    if kept is None:
                        values = section.before(*given) if section.before else ()
                        front = values[: section.reading]
                        crossing.append(values[section.reading :])
                        held += nbytes(front)
                        below = [*below, front] if held <= self.room else []
                    else:
                        front = below[i]
                    if section.body:
                        raised.append(section.body(*given, *front))
                    values = front = ()
        whole = self.bind(inputs)
        with session():
            above = kept[1] if kept is not None else ()
            if kept is None and section.above:
                above = section.above(*whole, *(put_together(crossing) if crossing else ()))
            finish(0, size, section.head(*whole, *above, *(put_together(raised) if raised else ())))
        return (below, above) if held <= self.room else None


def plain_call(task: Task) -> bool:
    """Whether the task hands the collated inputs to the module as they are."""
    return task.forward is call


@contextmanager
def counting_versions() -> Iterator[None]:
    """No gradients, and values whose versions are counted, so that a write into them is seen (inference mode counts none)."""
    with torch.inference_mode(False), torch.no_grad():
        yield
