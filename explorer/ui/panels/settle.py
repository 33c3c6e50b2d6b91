"""After a gesture: evaluate the rest of the samples while the page stays usable, then show everything settled."""

from __future__ import annotations

import time

import streamlit as st

import explorer
from explorer.compress.apply import known_gap, verified
from explorer.core.errors import ExplorerError
from explorer.evaluate.evaluator import glance
from explorer.models.subject import Subject

from ..i18n import translated
from ..state import Workspace, user
from . import scoreboard
from .detail import Board

SOON = 0.15  # seconds from the page's answer to the start of the long evaluation
ARMED, FAILED = "settle-armed", "settle-failed"


def render(space: Workspace, subject: Subject, board: Board) -> None:
    """A fragment of its own, started by a timer: the script run that drew the page has ended by then, so nothing on it is
    left half drawn, and any newer event ends the evaluation at the next chunk."""
    st.session_state[ARMED] = False
    st.session_state.pop(FAILED, None)
    recipe, device = space.history.present, st.session_state.get("device")
    try:
        plan = explorer.resolve(subject, recipe)
        gap = known_gap(subject, plan)
        if not plan.structural or gap is not None:
            if glance(subject, recipe, device=device, user=user()).complete:
                if not board.complete:  # a fast model is done by now, though the board was drawn from a first look
                    st.rerun()
                return
    except ExplorerError:
        return  # said beside the histogram already
    st.fragment(_settle, run_every=SOON)(space, subject, board)


def _settle(space: Workspace, subject: Subject, board: Board) -> None:
    if not st.session_state[ARMED]:  # the first pass belongs to the page's own run
        st.session_state[ARMED] = True
        board.again()
        return
    if FAILED in st.session_state:  # said once, and not tried again until something changes
        st.error(translated(st.session_state[FAILED]), icon=":material/error:")
        return
    if space.live is not None or space.stale:
        return  # a drag is on; it answers by itself
    recipe, device = space.history.present, st.session_state.get("device")
    try:
        last = glance(subject, recipe, device=device, user=user())
        began = time.perf_counter()

        def progress(done: int, total: int) -> None:
            spent = time.perf_counter() - began
            left = spent / max(done - last.n, 1) * (total - done)
            board.strip.html(scoreboard.strip(last, (done, total, left)))

        plan = explorer.resolve(subject, recipe)
        if plan.structural:  # removing the units must equal masking them: looked at when a gesture ends, not at every event
            verified(subject, plan)
        explorer.evaluate(subject, recipe, device=device, progress=progress, user=user())
    except ExplorerError as error:
        st.session_state[FAILED] = error.message
        st.error(translated(error), icon=":material/error:")
        return
    st.rerun()
