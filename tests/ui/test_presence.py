"""What a session brought goes when it is over, also what garbage collection was told to leave alone."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

from explorer.ui import presence


class Thing:
    """In a circle, which only garbage collection finds."""

    def __init__(self) -> None:
        self.me = self


def test_only_what_is_over_is_ended_and_frozen_things_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_watched", {})
    state, other = {"upload": Thing()}, {"upload": Thing()}
    held = weakref.ref(state["upload"])
    gc.freeze()
    presence._watched |= {"a": presence.Watched(state.clear), "b": presence.Watched(other.clear)}
    assert presence.look(lambda name: True) == 0
    assert presence.look(lambda name: name == "b") == 0  # a browser may come back within two minutes
    presence._watched["a"].seen = time.monotonic() - presence.GONE
    presence._watched["b"].seen = time.monotonic() - presence.GONE
    assert presence.look(lambda name: name == "b") == 1 and list(presence._watched) == ["b"]
    assert not state and other and held() is None


def test_without_a_server_nothing_is_watched() -> None:
    before = dict(presence._watched)
    presence.watch(lambda: None)
    assert presence._watched == before


def test_one_that_cannot_be_ended_keeps_no_other(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    state = {"upload": 1}
    long_ago = time.monotonic() - presence.GONE
    ended = {"a": presence.Watched(lambda: 1 / 0, long_ago), "b": presence.Watched(state.clear, long_ago)}
    monkeypatch.setattr(presence, "_watched", ended)
    assert presence.look(lambda name: False) == 2 and not state and "could not be ended" in caplog.text
