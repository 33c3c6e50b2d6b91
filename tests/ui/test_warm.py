"""Where previews have a precision of their own, the original is known in it before a handle is moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from streamlit.testing.v1 import AppTest

import explorer
from explorer.evaluate.engine import Engine, engine
from explorer.evaluate.evaluator import ORIGINAL, glance, stream
from explorer.evaluate.tune import tuning

MODEL = "bikes-mlp"


@pytest.fixture
def previews(device: str) -> Iterator[Engine]:
    """The engine of a device that is said to be faster in half precision."""
    subject, here = explorer.load(MODEL), torch.device(device)
    tuned = tuning(subject, here)
    before = tuned["fast"]
    tuned["fast"] = replace(tuned["full"], dtype=torch.bfloat16)
    yield engine(subject, here, "fast")
    tuned["fast"] = before


def test_a_move_before_that_is_answered_in_full_precision(previews: Engine, device: str) -> None:
    subject = previews.subject
    explorer.evaluate(subject, device=device)
    recipe = explorer.Recipe().prune("fc2", sparsity=0.5)
    before = previews.chunks
    assert glance(subject, recipe, precision="fast", device=device).precision == "fp32" and previews.chunks == before
    list(stream(subject, precision="fast", device=device))
    assert glance(subject, recipe, precision="fast", device=device).precision == "bf16"


def test_the_original_is_seen_in_the_precision_of_previews_once(previews: Engine, device: str) -> None:
    def script() -> None:
        import streamlit as st

        from explorer.ui import state
        from explorer.ui.pages import explore, pages

        state.arrive({page.PATH: st.Page(page.render, title=page.PATH, url_path=page.PATH) for page in pages()})
        explore.render()

    explorer.evaluate(previews.subject, device=device)
    app = AppTest.from_function(script, default_timeout=60)
    app.session_state["model"], app.session_state["device"] = MODEL, device
    app.run()
    job = app.session_state["job-warm"]
    job.wait(30)
    total = previews.data("validation").total
    assert previews.precision == "bf16" and previews.seen(ORIGINAL, "validation").n == total and job.latest.complete
    before = previews.chunks
    app.run()
    assert app.session_state["job-warm"] is job and previews.chunks == before
