"""Work that goes on while the page stays usable: a thread a session and name, asked for what it has so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from explorer.core.errors import Cancelled, ExplorerError

Ask = Callable[[], bool]
Tell = Callable[[int, int], None]


@dataclass
class Job:
    """found: what was yielded so far. done, total: progress. key: what it was asked to do."""

    key: object
    found: list[Any] = field(default_factory=list)
    done: int = 0
    total: int = 0
    error: str = ""  # a message, or the text of what was not foreseen
    running: bool = True
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """It ends at its next question."""
        self._stop.set()

    def _told(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    def _work(self, make: Callable[[Tell, Ask], Iterator[Any]]) -> None:
        try:
            for one in make(self._told, self._stop.is_set):
                self.found.append(one)
        except Cancelled:
            pass
        except ExplorerError as error:
            self.error = error.message
        except Exception as error:  # a thread's traceback reaches nobody
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.running = False


def start(name: str, key: object, make: Callable[[Tell, Ask], Iterator[Any]]) -> Job:
    """Run ``make(progress, cancel)`` in a thread; a job of that name that still runs is stopped."""
    before = current(name)
    if before is not None:
        before.stop()
    job = Job(key)
    st.session_state[f"job-{name}"] = job
    threading.Thread(target=job._work, args=(make,), daemon=True, name=name).start()
    return job


def current(name: str) -> Job | None:
    """The session's last job of that name."""
    return st.session_state.get(f"job-{name}")
