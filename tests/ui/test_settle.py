"""A step is drawn once where all samples take a moment, and what is left over is seen in a thread elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

import explorer
from explorer.evaluate.engine import engine
from explorer.ui import turns
from explorer.ui.pages import explore
from explorer.ui.panels import detail, settle

MODEL = "bikes-mlp"


@pytest.fixture
def app(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[AppTest, list[int]]]:
    """The page, settled, of a model whose samples fit into no first look; and whenever it was drawn."""
    drawn: list[int] = []
    render = explore._render

    def counted(*given: Any) -> None:
        drawn.append(1)
        render(*given)

    monkeypatch.setattr(explore, "_render", counted)

    def script() -> None:
        import streamlit as st

        from explorer.ui import state
        from explorer.ui.pages import explore, pages

        state.arrive({page.PATH: st.Page(page.render, title=page.PATH, url_path=page.PATH) for page in pages()})
        explore.render()

    subject = explorer.load(MODEL)
    explorer.evaluate(subject, device=device)
    run = engine(subject, torch.device(device))
    rate, looks = run.rate, run.data("validation").looks
    run.rate, run.data("validation").looks = 100.0, [32, 64, run.data("validation").total]
    run._rates.clear()
    run.prefixes.drop(run.token)  # or what the test before left would be at hand
    made = AppTest.from_function(script, default_timeout=60)
    made.session_state["model"], made.session_state["device"] = MODEL, device
    made.run()
    assert not made.exception
    yield made, drawn
    run.rate, run.data("validation").looks = rate, looks


def release(app: AppTest, sparsity: float) -> None:
    """What the handle's last event does, and the page's run that follows."""
    space = app.session_state["workspaces"][MODEL]
    space.commit(explorer.Recipe().prune("*", sparsity=sparsity))
    app.run()
    assert not app.exception


def complete(app: AppTest) -> bool:
    return 'data-complete="true"' in app.session_state["board"][0]


def test_a_step_whose_samples_take_a_moment_is_drawn_once(
    app: tuple[AppTest, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, drawn = app
    monkeypatch.setattr(detail, "WHOLE", 60.0)
    drawn.clear()
    release(page, 0.4137)
    assert (
        drawn == [1]
        and complete(page)
        and not page.session_state[settle.ARMED]
        and "job-sharpen" not in page.session_state
    )


def test_of_a_slow_model_a_first_look_is_drawn(app: tuple[AppTest, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    page, drawn = app
    monkeypatch.setattr(detail, "WHOLE", 0.1)
    drawn.clear()
    release(page, 0.4281)
    assert drawn == [1] and not complete(page) and page.session_state[settle.ARMED]  # its timer goes on


def test_nobody_who_waits_for_a_page_waits_for_anothers_samples(
    app: tuple[AppTest, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = app
    monkeypatch.setattr(detail, "WHOLE", 60.0)
    monkeypatch.setattr(turns.Turns, "waiting", property(lambda self: 1))
    release(page, 0.4423)
    assert not complete(page)


@pytest.mark.parametrize(("since", "begins"), [(0.0, 0), (settle.PATIENT, 1)])
def test_what_is_left_gives_way_to_pages_for_a_while(
    monkeypatch: pytest.MonkeyPatch, since: float, begins: int
) -> None:
    begun: list[Any] = []

    def begin(*given: Any) -> Any:
        begun.append(given)
        return SimpleNamespace(wait=lambda _: None, error="", running=True, latest=None)

    monkeypatch.setattr(settle.sharpen, "begin", begin)
    monkeypatch.setattr(settle, "st", SimpleNamespace(session_state={settle.ARMED: True}))
    monkeypatch.setattr(turns.Turns, "waiting", property(lambda self: 1))
    space = SimpleNamespace(live=None, stale=False, history=SimpleNamespace(present=explorer.Recipe()))
    settle._settle(space, None, None, time.monotonic() - since)  # type: ignore[arg-type]
    assert len(begun) == begins
