"""Work beside the page: it reports, it can be cancelled, and what it raises is kept."""

from __future__ import annotations

import threading

from explorer.core.errors import Cancelled, RecipeError
from explorer.ui.jobs import Job


def test_a_job_reports_and_ends() -> None:
    go = threading.Event()

    def work(cancel, progress) -> str:
        progress(1, 4)
        go.wait(10)
        progress(4, 4)
        return "done"

    job = Job("key", work)
    while job.done == 0:
        pass
    assert job.running and job.share == 0.25 and job.seconds_left >= 0
    go.set()
    job.join(10)
    assert not job.running and job.result == "done" and job.error is None and job.share == 1 and job.key == "key"


def test_a_cancelled_job_has_neither_result_nor_error() -> None:
    def work(cancel, progress) -> None:
        while not cancel():
            pass
        raise Cancelled("stopped")

    job = Job("key", work)
    job.cancel()
    job.join(10)
    assert not job.running and job.result is None and job.error is None


def test_errors_are_kept_whatever_they_are(capsys) -> None:
    def ours(cancel, progress) -> None:
        raise RecipeError("no such layer")

    def another(cancel, progress) -> None:
        raise ZeroDivisionError("by zero")

    for work, text in ((ours, "no such layer"), (another, "ZeroDivisionError: by zero")):
        job = Job("key", work)
        job.join(10)
        assert job.error is not None and text in job.error.message
    assert "ZeroDivisionError" in capsys.readouterr().err
