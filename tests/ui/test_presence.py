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
