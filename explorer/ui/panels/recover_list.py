"""All of one's jobs: pick one to look at, remove what is over."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.recover.jobs import Job, jobs
from explorer.recover.schedules import registry

from .. import format as fmt
from .. import models, recovered, state
from ..i18n import _, translated
from ..owner import owner
from .recover_watch import TICK, kind, state_name

FIRST = 5  # jobs that are shown at once


def chosen(mine: list[Job], subject: Subject, recipe: Recipe) -> Job | None:
    """The job that was picked, or else the newest one on this model and recipe."""
    picked = next((job for job in mine if job.id == st.session_state.get("recover-job")), None)
    if picked is not None and picked.told["digest"] == subject.digest:
        return picked
    return next(
        (job for job in mine if job.told["digest"] == subject.digest and job.told["recipe"] == recipe.to_json()), None
    )


def render(mine: list[Job], shown: Job | None) -> None:
    """A row a job, the newest first."""
    if not mine:
        return
    st.markdown(f"**{_('My jobs')}**")
    for job in mine[:FIRST]:
        _row(job, job is shown)
    if older := mine[FIRST:]:
        with st.expander(_("{n} older ones", n=len(older)), expanded=shown in older):
            for job in older:
                _row(job, job is shown)
    if others := [job for job in mine if job is not shown and not job.over]:  # the shown one is watched already
        st.fragment(_follow, run_every=TICK)(others, [job.state for job in others])
    if refused := st.session_state.pop("recover-refused", None):
        st.error(translated(refused), icon=":material/error:")


def _follow(others: list[Job], were: list[str]) -> None:
    if [job.state for job in others] != were:
        st.rerun()


def _row(job: Job, shown: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key=f"job-row-{job.id}"):
        mark = "**" if shown else ""
        st.markdown(f"{mark}{said(job)}{mark}", width=640)
        st.button(_("Show"), key=f"show-{job.id}", on_click=_pick, args=(job,))
        if job.over:
            st.button(
                _("Remove"), icon=":material/delete:", key=f"remove-{job.id}", on_click=jobs().remove, args=(owner(), job.id)
            )  # fmt: skip


def said(job: Job) -> str:
    """A job in a line: when, what model, what was done to it, how it stands."""
    told = [began(job), str(job.told["subject"]), kind(job)]
    schedule = str(dict(job.told["schedule"]).get("name", "one-shot"))
    if schedule != "one-shot" and schedule in registry:
        told[-1] += f", {_(registry[schedule].title)}"
    if (result := job.result) is not None:
        entry = result.history[-1]
        if entry.metric in entry.damaged:
            before, after = (fmt.metric(entry.metric, one[entry.metric].value) for one in (entry.damaged, entry.after))
            told.append(f"{before} → {after}")
    return " · ".join([*told, state_name(job)])


def began(job: Job) -> str:
    """When it was asked for, on the visitor's clock; with the day, if that is another one."""
    try:
        zone = ZoneInfo(st.context.timezone or "")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = None  # the server's clock
    at, now = datetime.fromtimestamp(job.created, zone), datetime.now(zone)
    return at.strftime("%H:%M" if at.date() == now.date() else "%Y-%m-%d %H:%M")


def _pick(job: Job) -> None:
    """Look at a job: its model and its recipe are those of the page, too."""
    try:
        subject = recovered.start(job)
    except ExplorerError as error:
        st.session_state["recover-refused"] = error
        return
    st.session_state["recover-job"] = job.id
    name = models.name_of(subject)
    recipe = Recipe.from_json(str(job.told["recipe"]))
    state.show(name, recipe if state.workspace(name).history.present != recipe else None)
