"""A session's threads end with it, and what an old one found is not kept."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from explorer.ui import jobs

NAME = "job under test"


class Found:
    """What a job yields."""


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    state: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "st", SimpleNamespace(session_state=state))
    return state


def ended() -> None:
    """Wait for the threads of all jobs."""
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(10)


def test_what_an_old_job_found_goes_with_the_next_one(session: dict[str, Any]) -> None:
    jobs.start(NAME, 1, lambda tell, ask: iter([Found()]))
    ended()
    old = weakref.ref(session[f"job-{NAME}"].latest)
    assert isinstance(old(), Found)
    jobs.start(NAME, 2, lambda tell, ask: iter([Found()]))
    ended()
    gc.collect()
    assert old() is None and isinstance(session[f"job-{NAME}"].latest, Found)


def test_what_goes_on_stands_on_what_was_found(session: dict[str, Any]) -> None:
    first = jobs.start(NAME, 1, lambda tell, ask: iter([1, 2]))
    ended()
    held = threading.Event()

    def later(tell: jobs.Tell, ask: jobs.Ask) -> Iterator[int]:
        held.wait(10)
        yield 3

    second = jobs.start(NAME, 1, later, after=first)
    assert second.running and second.latest == 2 and second.before == first.spent
    held.set()
    ended()
    assert second.found == [2, 3] and first.found == [1, 2]


def test_what_runs_stops_with_its_session(session: dict[str, Any]) -> None:
    def go_on(tell: jobs.Tell, ask: jobs.Ask) -> Iterator[int]:
        while not ask():
            time.sleep(0.001)
        yield 1

    job = jobs.start(NAME, 1, go_on)
    assert job.running and not job.stopped
    session.clear()
    gc.collect()
    ended()
    assert job.stopped and not job.running
