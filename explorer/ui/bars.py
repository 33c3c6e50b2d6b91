"""Long work says how far it is and about how long it still takes."""

from __future__ import annotations

import streamlit as st

from . import format as fmt
from .i18n import _
from .jobs import Job

WARM = 1.0  # seconds before which the pace is that of warming up


def said(text: str, spent: float, done: float, total: float) -> str:
    """The text, with the time left once that can be known."""
    if not 0 < done < total or spent < WARM:
        return text
    return f"{text} · " + _("{left} left", left=fmt.duration(spent * (total - done) / done))


def bar(job: Job, text: str) -> None:
    """Of a job in the background."""
    st.progress(min(1.0, job.done / max(1, job.total)), said(text, job.spent, job.done, job.total))
