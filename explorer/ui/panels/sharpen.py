"""The rest of a recipe's samples, seen in a thread: while the hand rests, and after a gesture."""

from __future__ import annotations

from collections.abc import Iterator

import streamlit as st

import explorer
from explorer.compress.apply import verified
from explorer.core.recipe import Recipe
from explorer.core.report import Report
from explorer.evaluate.evaluator import stream
from explorer.models.subject import Subject

from .. import jobs
from ..state import background

NAME, WARM = "sharpen", "warm"


def begin(subject: Subject, recipe: Recipe, precision: str) -> jobs.Job:
    """The session's job that looks at the rest of a recipe's samples, four times the first ones, then all; any other ends.

    A thread, since Streamlit starts no other part of a page before the one that runs has ended: a drag would wait.
    """
    device, who = st.session_state.get("device"), background()
    key = (id(subject), recipe, precision, device)
    job = jobs.current(NAME)
    if job is not None and job.key == key and not (job.cancelled or job.stopped):
        return job

    def work(tell: jobs.Tell, ask: jobs.Ask) -> Iterator[Report]:
        plan = explorer.resolve(subject, recipe)
        if plan.structural and precision == "full":  # removal equals masking: looked at when a gesture ends, not at every event
            verified(subject, plan)
        yield from stream(subject, recipe, precision=precision, device=device, cancel=ask, progress=tell, user=who)

    return jobs.start(NAME, key, work)


def stop() -> None:
    """A newer move: what is under way ends at its next batch."""
    job = jobs.current(NAME)
    if job is not None:
        job.stop()


def warm(subject: Subject) -> None:
    """The original in the precision of previews, once, in a thread: where that is a precision of its own, a handle's first move would have
    to wait for its weights, its data and its trace."""
    device, who = st.session_state.get("device"), background()
    key, job = (id(subject), device), jobs.current(WARM)
    if job is None or job.key != key or job.cancelled:
        jobs.start(WARM, key, lambda tell, ask: stream(subject, precision="fast", device=device, cancel=ask, user=who))
