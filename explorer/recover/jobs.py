"""Trainings that go on by themselves: a queue a device, each seen by its owner alone, kept on disk to go on after a crash."""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import suppress

import torch

from ..core.errors import Cancelled, ExplorerError, TrainingError, cause
from ..core.message import say
from ..core.training import Epoch
from ..models.device import pick
from ..models.subject import Subject
from .checkpoint import Stand, stand
from .job import CANCELLED, DONE, FAILED, INTERRUPTED, OVER, RUNNING, WAITING, Job, found
from .keeping import beyond_memory, let_go, too_many
from .orders import Order, Work
from .store import BOARD, CHECKPOINT, Store, hidden, home
from .tensorboard import needed, writer

__all__ = ["CANCELLED", "DONE", "FAILED", "INTERRUPTED", "OVER", "RUNNING", "WAITING", "Job", "Jobs", "jobs", "leave"]
EACH = 3  # jobs of one owner that wait or run
SCARCE = (OSError, MemoryError, torch.OutOfMemoryError)  # of what there may be more another time


class Jobs:
    """All jobs of this server. Owners are unguessable texts; on disk stand their hashes alone."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store(home() / "jobs")
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._lines: dict[str, list[Job]] = {}  # {device: jobs that wait}
        self._workers: dict[str, threading.Thread] = {}
        for name, record in self.store.read():
            with suppress(KeyError, TypeError, ValueError):
                self._jobs[name] = found(name, record)

    def submit(self, owner: str, order: Order, board: bool = False, session: str = "") -> Job:
        """Put an order into its device's queue, or join the job that does the same already.

        session: whose own model it begins with; "" for one that everybody has. With the last such session goes what it
        brought (:meth:`leave`).

        Raises what the work refuses before it starts, and :class:`TrainingError` when too many of this owner's wait.
        """
        with self._lock:
            same = next(
                (one for one in self._jobs.values() if one.key == order.key and one.state in (WAITING, RUNNING, DONE)),
                None,
            )
            if same is not None:
                same.owners.add(owner)
                same.seen_by(session)
                self._write(same)
                return same
            if sum(not one.over for one in self.mine(owner)) >= EACH:
                raise TrainingError(
                    say("{count} of your jobs wait or run; accepted: another one when one of these is over", count=EACH)
                )
        if board:
            needed()
        job = Job(secrets.token_hex(8), order.to_dict(), {owner}, order.key, order, board=board)
        job.seen_by(session)
        self._enqueue(job, self._work(job))
        self._clean(owner)
        return job

    def mine(self, owner: str) -> list[Job]:
        """An owner's jobs, the newest first."""
        names = {owner, hidden(owner)}
        return sorted((one for one in self._jobs.values() if names & one.owners), key=lambda one: -one.created)

    def get(self, owner: str, name: str) -> Job | None:
        """An owner's job by its id; None for others', too."""
        return next((one for one in self.mine(owner) if one.id == name), None)

    def cancel(self, owner: str, name: str) -> None:
        """The owner wants it no more. It ends, with the best so far, when no other owner is left who does."""
        job = self.get(owner, name)
        if job is None or job.over:
            return
        if self._left(job, owner):
            return
        job._stop.set()
        with self._lock:
            for line in self._lines.values():
                if job in line:
                    line.remove(job)
                    self._end(job, CANCELLED)

    def remove(self, owner: str, name: str) -> None:
        """Forget a job that is over; its files go with its last owner."""
        job = self.get(owner, name)
        if job is not None and job.over and not self._left(job, owner):
            with self._lock:
                self._jobs.pop(job.id, None)
            self.store.remove(job.id)

    def _left(self, job: Job, owner: str) -> bool:
        """Whether somebody else still wants it: then it is no longer this owner's."""
        others = job.owners - {owner, hidden(owner)}
        if others:
            job.owners = others
            self._write(job)
        return bool(others)

    def leave(self, session: str) -> None:
        """A session ended: of models that it alone had opened, their data, and what was made of them nothing stays in memory."""
        with self._lock:
            for job in self._jobs.values():
                if job.sessions is not None and session in job.sessions:
                    job.sessions.discard(session)
                    if job.over and not job.sessions:
                        let_go(job)

    def resume(self, owner: str, name: str, subject: Subject, session: str = "") -> Job:
        """Go on with a job that a crash, a restart or its owner broke off. subject: the one that it began with.

        Raises :class:`TrainingError` for another subject, and what the work refuses.
        """
        job = self.get(owner, name)
        if job is None or job.state not in (INTERRUPTED, CANCELLED, FAILED):
            raise TrainingError(say("no job of yours by that name can go on"))
        job.order = Order.from_dict(job.told, subject)
        job.seen_by(session)
        job.error, job.curve, job.steps, job.notes, job._stop, job.ended = None, [], [], [], threading.Event(), None
        job.stage, job.stood, job.final = None, None, False
        self._enqueue(job, self._work(job))
        return job

    def stand(self, job: Job) -> Stand | None:
        """How far a job is that was broken off, and its curve and decisions again; None where there is no checkpoint to go on from."""
        if job.state in (INTERRUPTED, FAILED) and job.stood is None:
            job.stood = stand(self.store.root / job.id / CHECKPOINT)
            if job.stood is not None and not job.curve:
                job.curve, job.notes = list(job.stood.curve), list(job.stood.notes)
        return job.stood

    def reopen(self, owner: str, name: str, subject: Subject, session: str = "") -> Subject:
        """The result of a job that is over and that is not in memory any more, from its last checkpoint."""
        job = self.get(owner, name)
        if job is None:
            raise TrainingError(say("no job of yours by that name can go on"))
        with job._opening:  # two tabs may ask at once
            job.seen_by(session)
            if job.result is None:
                self._reopen(job, subject)
            result = job.result
        assert result is not None
        self._trim(job)
        return result

    def _reopen(self, job: Job, subject: Subject) -> None:
        job.order = Order.from_dict(job.told, subject)
        ends = job.order.what != "recalibration"
        if not job.over or (ends and not (self.store.folder(job.id) / CHECKPOINT).exists()):
            raise TrainingError(
                say("the job was broken off before there was anything to keep; accepted: to start it again")
            )
        job.curve, job.notes = [], []
        work = job.order.work(self.store.folder(job.id) / CHECKPOINT, lambda: ends, job.moved, None)
        for event in work.events():
            job.tell(event)
        job.result = work.subject()

    def _work(self, job: Job) -> Work:
        assert job.order is not None
        file = self.store.folder(job.id) / CHECKPOINT
        try:
            return job.order.work(file, job._stop.is_set, job.moved, job.id, job.does)
        except Exception:
            if not file.exists():
                self.store.remove(job.id)
            raise

    def _enqueue(self, job: Job, work: Work) -> None:
        device = str(pick(job.order.device if job.order else None))
        with self._lock:
            self._jobs[job.id] = job
            job.state = WAITING
            job._work = work
            self._lines.setdefault(device, []).append(job)
            self._write(job)
            if device not in self._workers:
                self._workers[device] = threading.Thread(target=self._serve, args=(device,), daemon=True, name="jobs")
                self._workers[device].start()

    def _serve(self, device: str) -> None:
        while True:
            with self._lock:
                line = self._lines[device]
                if not line:
                    del self._workers[device]
                    return
                job = line.pop(0)
                job.state = RUNNING
            self._write(job)
            self._do(job)

    def _do(self, job: Job) -> None:
        work, job._work = job._work, None
        assert work is not None
        try:
            with writer(self.store.root / job.id / BOARD if job.board else None) as told:
                for event in work.events():
                    job.tell(event)
                    told(event)
                    if isinstance(event, Epoch):
                        self._write(job)
            job.result = work.subject()
            job.made = job.result.digest
            job.done = job.done if job._stop.is_set() else job.total
            self._end(job, CANCELLED if job._stop.is_set() else DONE)
        except Cancelled:
            self._end(job, CANCELLED)
        except ExplorerError as error:
            job.error, job.final = error.message, not isinstance(error.__cause__, SCARCE)
            self._end(job, FAILED)
        except Exception as error:  # a thread's traceback reaches nobody
            job.error = say("it ended by an error that was not foreseen; accepted: to go on from its checkpoint, or to start it again ({cause})", cause=cause(error, 300))
            self._end(job, FAILED)

    def _end(self, job: Job, state: str) -> None:
        job.ended, job.left = time.time(), None
        self._write(job, state)
        job.state = state  # last: who sees that it is over finds it so on disk, too
        self._trim(job)

    def _write(self, job: Job, state: str = "") -> None:
        over = {"state": state, "process": None} if state else {}
        with suppress(OSError):  # a full disk costs the job its memory of itself, not its result
            self.store.write(job.id, job.record() | over)

    def _clean(self, owner: str) -> None:
        for job in too_many([one for one in self.mine(owner) if one.over], self.store.bytes):
            self.remove(owner, job.id)

    def _trim(self, newest: Job) -> None:
        newest.used = time.time()
        with self._lock:
            for job in beyond_memory(self._jobs.values()):
                let_go(job)


_all: Jobs | None = None
_making = threading.Lock()


def jobs() -> Jobs:
    """Those of this process, for all sessions."""
    global _all
    with _making:
        if _all is None:
            _all = Jobs()
        return _all


def leave(session: str) -> None:
    """A session ended; in a thread of its own, since this is said whenever Python finds out, whatever locks are held there."""
    if _all is not None:
        with suppress(RuntimeError):  # at the end of the process no thread starts
            threading.Thread(target=_all.leave, args=(session,), daemon=True, name="jobs-leave").start()
