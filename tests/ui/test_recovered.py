"""Whose a job's start is: everybody's, or of the session that brought it."""

from __future__ import annotations

import gc

import pytest

import explorer
from explorer.ui import models, recovered, state
from tests.recover.small import small


def test_only_a_model_of_ones_own_belongs_to_the_session(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(state, "user", lambda: "me")
    monkeypatch.setattr(models, "_registered", {})
    sample, mine = explorer.load("bikes-mlp"), small(device)
    child = explorer.Subject(mine.module, mine.task, "child")
    child.parent = mine
    assert recovered.session(sample) == "" and recovered.session(mine) == recovered.session(child) == "me"
    namesake = explorer.Subject(mine.module, mine.task, "bikes-mlp")
    assert recovered.session(namesake) == "me"
    models.register(mine)
    assert recovered.session(mine) == recovered.session(child) == ""


def test_a_session_that_ends_says_so_to_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(state, "leave_jobs", told.append)
    visitor = state.Visitor()
    name = visitor.name
    del visitor
    gc.collect()
    assert told == [name]
