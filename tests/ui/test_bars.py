from __future__ import annotations

import time

import pytest

from explorer.ui import bars
from explorer.ui.jobs import Job


@pytest.mark.parametrize(
    "spent,done,total,shown",
    [(10.0, 1, 4, "Measuring … · 30 s left"), (90.0, 60, 100, "Measuring … · 1 min 0 s left"), (10.0, 0, 4, "Measuring …"), (10.0, 4, 4, "Measuring …"), (10.0, 1, 0, "Measuring …"), (0.5, 1, 4, "Measuring …")],
)
def test_the_time_left_is_said_once_it_can_be_known(spent: float, done: int, total: int, shown: str) -> None:
    assert bars.said("Measuring …", spent, done, total) == shown


def test_a_bar_is_as_full_as_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, str]] = []
    monkeypatch.setattr(bars.st, "progress", lambda share, text: drawn.append((share, text)))
    job = Job(None, done=5, total=10, began=time.perf_counter() - 20)
    bars.bar(job, "Comparing …")
    bars.bar(Job(None), "Comparing …")
    assert drawn == [(0.5, "Comparing … · 20 s left"), (0.0, "Comparing …")]
