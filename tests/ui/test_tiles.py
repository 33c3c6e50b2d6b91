"""Pictures of samples are drawn once."""

from __future__ import annotations

from copy import deepcopy

import pytest

import explorer
from explorer.evaluate.answers import show
from explorer.models.subject import Subject
from explorer.ui.panels import tiles


@pytest.mark.parametrize(
    ("name", "mark"),
    [("fashion-mlp", "data:image/png;base64,"), ("vowels-rnn", "data:image/svg+xml;base64,"), ("bikes-mlp", "<pre>")],
)
def test_a_sample_is_drawn_once(name: str, mark: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = explorer.load(name)
    subject = Subject(deepcopy(sample.module).to(device), sample.task, name="mine")  # with a memo of its own
    drawn = tiles.kept(subject, "validation", 3)
    assert mark in drawn and drawn == tiles.picture(show(subject, "validation", 3), subject.task.labels)
    assert tiles.kept(subject, "validation", 4) != drawn
    monkeypatch.setattr(tiles, "picture", lambda *_: pytest.fail("drawn again"))
    assert tiles.kept(subject, "validation", 3) == drawn
    assert tiles.tile(drawn, [("x-worse", "<a>")], "t").count(drawn) == 1
