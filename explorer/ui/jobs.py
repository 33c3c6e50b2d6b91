"""Long work beside the page: a thread that reports progress and can be cancelled. The page looks at it from a timed fragment."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import streamlit as st

from explorer.core.errors import Cancelled, ExplorerError, cause
from explorer.core.message import say

TICK = 0.6  # seconds between two looks


class Job:
    """``work(cancel=, progress=)`` in a thread. key: what it was started for. It never calls Streamlit."""

    def __init__(self, key: Any, work: Callable[..., Any]) -> None:
        self.key = key
        self.done, self.total = 0, 1
        self.result: Any = None
        self.error: ExplorerError | None = None
        self.began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name="explorer-job", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[..., Any]) -> None:
        try:
            self.result = work(cancel=self._stop.is_set, progress=self._progress)
        except Cancelled:
            pass
        except ExplorerError as error:
            self.error = error
        except Exception as error:  # a thread has nobody else to tell
            traceback.print_exc()
            self.error = ExplorerError(say("{cause}", cause=cause(error, 200)))

    def _progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._thread.is_alive()

    @property
    def share(self) -> float:
        """0 to 1."""
        return min(1.0, self.done / max(1, self.total))

    @property
    def seconds_left(self) -> float:
        """An estimate from what is done."""
        return (time.monotonic() - self.began) * (1 - self.share) / max(self.share, 0.02)

    def cancel(self) -> None:
        """Ask it to end at its next step."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(timeout)


def current(name: str) -> Job | None:
    """The session's job of a kind."""
    found = st.session_state.get(f"job-{name}")
    return found if isinstance(found, Job) else None


def start(name: str, key: Any, work: Callable[..., Any]) -> Job:
    """Start one, ending the session's former job of that kind."""
    before = current(name)
    if before is not None:
        before.cancel()
    job = st.session_state[f"job-{name}"] = Job(key, work)
    return job
