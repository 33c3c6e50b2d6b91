"""All of one's jobs: pick one to look at, remove what is over."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.recover.jobs import Job, jobs

from ..i18n import _
from ..owner import owner
from .recover_watch import kind, state_name


def chosen(mine: list[Job], subject: Subject, recipe: Recipe) -> Job | None:
    """The job that was picked, or else the newest one on this model and recipe."""
    picked = next((job for job in mine if job.id == st.session_state.get("recover-job")), None)
    if picked is not None and picked.told["digest"] == subject.digest:
        return picked
    return next(
        (job for job in mine if job.told["digest"] == subject.digest and job.told["recipe"] == recipe.to_json()), None
    )


def render(mine: list[Job], subject: Subject, shown: Job | None) -> None:
    """A row a job, the newest first."""
    if not mine:
        return
    st.markdown(f"**{_('My jobs')}**")
    for job in mine:
        with st.container(horizontal=True, vertical_alignment="center", key=f"job-row-{job.id}"):
            began = datetime.fromtimestamp(job.created).strftime("%H:%M")
            mark = "**" if job is shown else ""
            st.markdown(f"{mark}{began} · {job.told['subject']} · {kind(job)} · {state_name(job)}{mark}")
            if job.told["digest"] == subject.digest:
                st.button(_("Show"), key=f"show-{job.id}", disabled=job is shown, on_click=_pick, args=(job.id,))
            if job.over:
                st.button(
                    _("Remove"),
                    icon=":material/delete:",
                    key=f"remove-{job.id}",
                    on_click=jobs().remove,
                    args=(owner(), job.id),
                )


def _pick(name: str) -> None:
    st.session_state["recover-job"] = name
