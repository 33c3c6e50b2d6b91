"""A model that takes long to open: a bar says how long, and a click leads back."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from torch import nn

from explorer.models.subject import Subject
from explorer.ui import bars, models, state
from tests.contract.nets import tiny


def deep(device: str) -> Subject:
    return tiny(nn.Sequential(*[nn.Linear(6, 6) for _ in range(8)], nn.Linear(6, 3)), device=device)


class Place:
    """A place on the page that writes down what is put there."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def container(self, **_: Any) -> Place:
        return self

    def empty(self) -> Place:
        self.seen.append("empty")
        return self

    def progress(self, share: float, text: str) -> None:
        self.seen.append((share, text))

    def button(self, label: str, **more: Any) -> None:
        self.seen.append(label)


@pytest.mark.parametrize("patience", [-1.0, 1e9])
def test_a_bar_with_the_time_left_while_it_takes_long(
    patience: float, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(models, "PATIENCE", patience)
    monkeypatch.setattr(bars, "WARM", min(patience, bars.WARM))
    there = SimpleNamespace(session_state={}, spinner=lambda *_, **__: nullcontext(), empty=lambda: Place(seen))
    monkeypatch.setattr(models, "st", there)
    name = models.keep(deep(device))
    subject = models.open_subject(name)
    assert subject.surveyed and there.session_state[models.SHOWN] == name
    if patience > 0:
        assert not seen
    else:
        drawn = [one for one in seen if isinstance(one, tuple)]
        assert (
            seen[:2] == ["empty", "Cancel"] and seen[-1] == "empty"
        )  # the bar's place, the button; all of it goes at the end
        assert [share for share, _ in drawn] == sorted(share for share, _ in drawn) and "left" in drawn[1][1]
    seen.clear()
    models.open_subject(name)
    assert not seen


def test_cancel_leads_to_the_model_before_or_to_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(session_state={})
    monkeypatch.setattr(models, "st", there)
    monkeypatch.setattr(state, "st", there)
    models._leave("deep")
    assert there.session_state["go-model"] == models.default()
    models._leave(models.default())
    assert there.session_state["go-model"] not in ("", models.default())
    there.session_state[models.SHOWN] = "bikes-mlp"
    models._leave("deep")
    assert there.session_state["go-model"] == "bikes-mlp"


def test_a_click_while_it_is_looked_for_keeps_nothing_half_done(device: str) -> None:
    def script() -> None:
        import streamlit as st

        from explorer.ui import models

        models.PATIENCE = -1.0
        subject = st.session_state["subject"]
        models._survey(subject, "deep") if "stop" not in st.session_state else subject.survey(lambda *_: st.stop())

    app = AppTest.from_function(script)
    app.session_state["subject"], app.session_state["stop"] = deep(device), True
    app.run()
    assert not app.session_state["subject"].surveyed and not app.exception
    del app.session_state["stop"]
    app.run()
    assert app.session_state["subject"].surveyed and not app.exception
