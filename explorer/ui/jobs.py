"""Long work beside the page: a thread that keeps its newest state, which the page looks at when it is drawn."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import streamlit as st

from explorer.core.errors import Cancelled, ExplorerError

Steps = Callable[[Callable[[], bool]], Iterator[Any]]


class Job:
    """``steps(cancel)`` yields states; ``latest`` is the newest, ``version`` their number. It ends by itself, by ``cancel()``, or
    with its session. asked: what it was started with, for the page to say."""

    def __init__(self, steps: Steps, asked: Any = None, spent: float = 0.0) -> None:
        self.asked, self.latest, self.version = asked, None, 0
        self.error: str | None = None
        self.cancelled = False
        self._stop = threading.Event()
        self._began, self._ended, self._before = time.perf_counter(), 0.0, spent
        self._thread = threading.Thread(target=self._run, args=(steps,), daemon=True, name="study")
        self._thread.start()

    def _run(self, steps: Steps) -> None:
        try:
            for state in steps(self._stop.is_set):
                self.latest, self.version = state, self.version + 1
        except Cancelled:
            self.cancelled = True
        except ExplorerError as error:
            self.error = error.message
        except Exception as error:  # the page must say so; it would otherwise wait forever
            self.error = f"{type(error).__name__}: {error}"
        self._ended = time.perf_counter()

    @property
    def running(self) -> bool:
        """Whether states may still come."""
        return self._thread.is_alive()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    @property
    def spent(self) -> float:
        """Seconds of work, with those of the job that it goes on from."""
        return self._before + ((self._ended or time.perf_counter()) - self._began)

    def cancel(self) -> None:
        """Stop at the next chunk."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(seconds)
        return not self.running


class Jobs(dict[str, Job]):
    """The jobs of one session by name; they stop when it ends."""

    def __init__(self) -> None:
        super().__init__()
        self._all: list[weakref.ref[Job]] = []
        weakref.finalize(self, _stop_all, self._all)

    def start(self, name: str, steps: Steps, asked: Any = None, spent: float = 0.0) -> Job:
        """A new job of that name; an older one stops."""
        if name in self:
            self[name].cancel()
        job = self[name] = Job(steps, asked, spent)
        self._all.append(weakref.ref(job))
        return job

    __hash__ = object.__hash__  # type: ignore[assignment]


def _stop_all(jobs: list[weakref.ref[Job]]) -> None:
    for reference in jobs:
        job = reference()
        if job is not None:
            job.cancel()


def jobs() -> Jobs:
    """The session's jobs."""
    if "jobs" not in st.session_state:
        st.session_state["jobs"] = Jobs()
    found: Jobs = st.session_state["jobs"]
    return found
