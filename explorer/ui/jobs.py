"""Work that goes on while the page stays usable: a thread a session and name, asked for what it has so far."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from explorer.core.errors import Cancelled, ExplorerError, cause
from explorer.core.message import say

Ask = Callable[[], bool]
Tell = Callable[[int, int], None]


@dataclass
class Job:
    """found: what was yielded so far. done, total: progress. key: what it was asked to do. cancelled: it was, before its end.
    before: seconds of an earlier job that this one goes on from."""

    key: object
    found: list[Any] = field(default_factory=list)
    done: int = 0
    total: int = 0
    error: str = ""  # a message, or the text of what was not foreseen
    running: bool = True
    cancelled: bool = False
    before: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    ended: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _end: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """It ends at its next question."""
        self._stop.set()

    @property
    def latest(self) -> Any:
        """What was yielded last, or None."""
        return self.found[-1] if self.found else None

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    @property
    def spent(self) -> float:
        """Seconds of work."""
        return self.before + (self.ended or time.perf_counter()) - self.began

    def wait(self, seconds: float) -> None:
        """Until it has ended, but no longer than this."""
        self._end.wait(seconds)

    def _told(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    def _work(self, make: Callable[[Tell, Ask], Iterator[Any]]) -> None:
        try:
            for one in make(self._told, self._stop.is_set):
                self.found.append(one)
        except Cancelled:
            self.cancelled = True
        except ExplorerError as error:
            self.error = error.message
        except Exception as error:  # a thread's traceback reaches nobody
            self.error = say("It ended by an error that was not foreseen; accepted: to start it again ({cause})", cause=cause(error, 300))
        finally:
            self.ended = time.perf_counter()
            self.running = False
            self._end.set()


class _Session:
    """Lives as long as the session; what still runs for it stops with it."""


def start(name: str, key: object, make: Callable[[Tell, Ask], Iterator[Any]], after: Job | None = None) -> Job:
    """Run ``make(progress, cancel)`` in a thread; a job of that name that still runs is stopped, and all stop with the session.

    after: an earlier job that it goes on from, whose last finding stands until there is one of its own.
    """
    before = current(name)
    if before is not None:
        before.stop()
    job = Job(key) if after is None else Job(key, after.found[-1:], before=after.spent)
    ends = weakref.finalize(st.session_state.setdefault("job-session", _Session()), job.stop)
    st.session_state[f"job-{name}"] = job

    def work() -> None:
        try:
            job._work(make)
        finally:
            ends.detach()  # or the session would keep whatever any of its jobs ever found

    threading.Thread(target=work, daemon=True, name=name).start()
    return job


def current(name: str) -> Job | None:
    """The session's last job of that name."""
    return st.session_state.get(f"job-{name}")
