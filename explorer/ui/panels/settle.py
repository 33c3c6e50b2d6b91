"""After a gesture: the rest of the samples are seen while the page stays usable, then everything is shown settled."""

from __future__ import annotations

import time

import streamlit as st

import explorer
from explorer.compress.apply import known_gap
from explorer.core.errors import ExplorerError
from explorer.evaluate.evaluator import glance
from explorer.models.subject import Subject

from .. import turns
from ..i18n import translated
from ..state import Workspace, user
from . import scoreboard, sharpen
from .detail import Board

SOON = 0.15  # seconds from the page's answer to the start of the long evaluation, and between looks at it
AT_ONCE = 0.08  # seconds for which a look waits: what a fast model is done with by then needs no second one
PATIENT = 2.0  # seconds for which those go first who wait for their page
ARMED, FAILED = "settle-armed", "settle-failed"


def render(space: Workspace, subject: Subject, board: Board) -> None:
    """A fragment of its own, started by a timer: the script run that drew the page has ended by then, so nothing on it is
    left half drawn."""
    st.session_state[ARMED] = False
    st.session_state.pop(FAILED, None)
    sharpen.stop()
    recipe, device = space.history.present, st.session_state.get("device")
    try:
        plan = explorer.resolve(subject, recipe)
        gap = known_gap(subject, plan)
        if not plan.structural or gap is not None:
            if glance(subject, recipe, device=device, user=user(), more=False).complete and board.complete:
                sharpen.warm(subject)
                return
    except ExplorerError:
        return  # said beside the histogram already
    st.fragment(_settle, run_every=SOON)(space, subject, board, time.monotonic())


def _settle(space: Workspace, subject: Subject, board: Board, since: float) -> None:
    if not st.session_state[ARMED]:  # the first pass belongs to the page's own run
        st.session_state[ARMED] = True
        board.settling.empty()  # this fragment's place from now on
        return
    if FAILED in st.session_state:  # said once, and not tried again until something changes
        st.error(translated(st.session_state[FAILED]), icon=":material/error:")
        return
    if space.live is not None or space.stale:
        return  # a drag is on; it answers by itself
    if turns.pages.waiting and time.monotonic() - since < PATIENT:
        return  # others have no answer at all yet
    job = sharpen.begin(subject, space.history.present, "full")
    job.wait(AT_ONCE)
    if job.error:
        st.session_state[FAILED] = job.error
        st.error(translated(job.error), icon=":material/error:")
    elif job.running or job.cancelled:
        if job.latest is not None:
            left = (time.perf_counter() - job.began) / max(job.done, 1) * (job.total - job.done)
            board.settling.html(scoreboard.strip(job.latest, (job.done, job.total, left), over=True))
    else:
        st.rerun()
