"""What the panels of studies say: units by their own name, and why nothing can be suggested yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st

from explorer.core.recipe import Recipe
from explorer.evaluate.compare import Progress
from explorer.ui.jobs import Job
from explorer.ui.panels.error_based import rows
from explorer.ui.panels.sensitivity import _not_yet


@pytest.fixture(autouse=True)
def visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "session_state", {"language": "en"})


def found(*units: tuple[str, int]) -> Any:
    trace = [SimpleNamespace(group=group, unit=unit, cost=0.01, total=0.02, removed=True, reason="cheap") for group, unit in units]
    return SimpleNamespace(metric="accuracy", trace=trace, recipe=Recipe())


def test_a_unit_is_called_what_its_group_has() -> None:
    groups = [SimpleNamespace(name=name, kind=kind) for name, kind in (("blocks.0.attn", "head"), ("fc1", "neuron"))]
    subject: Any = SimpleNamespace(groups=groups, task=SimpleNamespace(lower_is_better=()))
    (one,) = rows(subject, found(("blocks.0.attn", 3)))
    assert one["head"] == 3 and "unit" not in one
    assert [row["unit"] for row in rows(subject, found(("blocks.0.attn", 3), ("fc1", 7)))] == ["head 3", "neuron 7"]


@pytest.mark.parametrize(
    ("settled", "running", "said"),
    [(0, True, "Available when the scan has ended."), (0, False, "No point of the scan is finished"), (1, False, "")],
)
def test_what_stands_in_the_way_of_a_suggestion(settled: int, running: bool, said: str) -> None:
    job = Job(None, running=running, cancelled=not running)
    why = _not_yet(job, Progress({}, "accuracy", settled, 64, 36 * 64))
    assert why.startswith(said) and bool(why) == bool(said)
