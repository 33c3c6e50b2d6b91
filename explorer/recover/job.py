"""One training that goes on by itself: what was asked for, and what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.training import Epoch, Event, Note, Step
from ..models.subject import Subject
from .checkpoint import Stand
from .orders import Order, Work
from .store import alive, hidden, process

WAITING, RUNNING, DONE = "waiting", "running", "done"
CANCELLED, FAILED, INTERRUPTED = "cancelled", "failed", "interrupted"
OVER = (DONE, CANCELLED, FAILED, INTERRUPTED)
STEPS = 2_000  # points of a curve that are kept


@dataclass(eq=False)
class Job:
    """One order and what became of it. owners: who asked for it; every other reader is a stranger. curve: an Epoch each, from 0.
    steps: some of the Steps. done, total: progress where there are no steps. stage: what is done where no steps are taken (what, samples
    done, of all). stood: how far it was when it was broken off. error: a message, or None. final: going on would end in that error again."""

    id: str
    told: Mapping[str, Any]
    owners: set[str]
    key: str
    order: Order | None = None
    state: str = WAITING
    curve: list[Epoch] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    done: int = 0
    total: int = 0
    stage: tuple[str, int, int] | None = None
    stood: Stand | None = None
    left: float | None = None
    error: Any = None
    final: bool = False
    result: Subject | None = None
    made: str = ""  # the result's digest, by which a later job's parent is found again
    created: float = field(default_factory=time.time)
    ended: float | None = None
    board: bool = False  # also written as TensorBoard event files
    used: float = field(default_factory=time.time)  # when the result was looked at last
    sessions: set[str] | None = None  # of a model that sessions opened as theirs: those that are still there
    _stop: threading.Event = field(default_factory=threading.Event)
    _work: Work | None = None  # while it waits
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in OVER

    @property
    def ending(self) -> bool:
        """Whether it was cancelled and has not come to where it asks."""
        return self._stop.is_set() and not self.over

    def seen_by(self, session: str) -> None:
        """A session that brought what this begins with, "" where everybody has it."""
        if session:
            self.sessions = (self.sessions or set()) | {session}

    def tell(self, event: Event) -> None:
        """Take an event in; steps are thinned out evenly."""
        if isinstance(event, Epoch):
            self.curve.append(event)
            self.stage = None
        elif isinstance(event, Note):
            self.notes.append(event)
        else:
            self.stage = None
            self.steps.append(event)
            self.done, self.total = event.step, event.steps
            if len(self.steps) > STEPS:
                del self.steps[1::2]
        if not isinstance(event, Note):
            self.left = event.left

    def moved(self, done: int, total: int) -> None:
        """Progress of work without steps."""
        self.done, self.total = done, total

    def does(self, what: str, done: int, total: int) -> None:
        """What goes on where no steps are taken."""
        self.stage = (what, done, total)

    def record(self) -> dict[str, Any]:
        """What stands on disk."""
        return {
            "key": self.key, "owners": sorted(hidden(one) if len(one) != 64 else one for one in self.owners), "order": dict(self.told),
            "state": self.state, "created": self.created, "ended": self.ended, "done": self.done, "total": self.total,
            "error": str(self.error) if self.error else "", "final": self.final, "board": self.board, "made": self.made,
            "process": None if self.over else process(),
        }  # fmt: skip


def found(name: str, record: Mapping[str, Any]) -> Job:
    """A job of an earlier process; one that had not ended was interrupted, unless that process still runs."""
    job = Job(
        name, record["order"], set(record["owners"]), record["key"], created=record["created"], board=record["board"]
    )
    job.made = record.get("made", "")
    job.state = record["state"] if record["state"] in OVER or alive(record["process"]) else INTERRUPTED
    job.done, job.total, job.ended = record["done"], record["total"], record["ended"]
    job.error, job.final = record["error"] or None, record.get("final", False)
    return job
