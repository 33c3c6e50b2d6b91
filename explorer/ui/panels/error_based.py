"""Error-based pruning: units go while their exact removal costs little; every decision is shown with its reason."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from explorer.evaluate.evaluator import glance
from explorer.models.subject import Subject
from explorer.studies.error_based import ErrorPruning, Terms, prune_by_error_steps

from .. import bars, units
from .. import format as fmt
from ..i18n import _, help_for, translated
from ..jobs import Job, current, start
from ..state import Workspace, user
from .scoreboard import metric_name

SHOWN = 400  # decisions in the table


def names(space: Workspace) -> list[str]:
    """Of the session's jobs, those of this panel."""
    return [f"error/{space.model}"]


def render(space: Workspace, subject: Subject) -> None:
    """An allowance, a button; then the trace as it grows."""
    if not subject.groups:
        return
    if "train" not in subject.task.splits:
        st.caption(_("Error-based pruning measures on training samples, of which this model's task has none."))
        return
    job = current(names(space)[0])
    with st.expander(
        _("Error-based pruning: remove the units that cost less than an allowance"),
        icon=":material/content_cut:",
        key=f"error-open-{space.model}",
    ):
        st.caption(help_for("term", "error-based pruning", ""))
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="row-error"):
            metric = glance(subject, device=st.session_state.get("device"), user=user()).main
            unit, scale = (_("points"), 100) if fmt.is_fraction(metric) else (metric_name(metric), 1)
            field: dict[str, Any] = {
                "min_value": 0.0,
                "step": 0.1 / 100 * scale,
                "format": "%.1f" if scale == 100 else "%.3f",
            }
            each = st.number_input(
                _("Retain a unit that costs, {unit}", unit=unit),
                value=0.5 / 100 * scale,
                key=f"error-each-{space.model}",
                width=250,
                **field,
            )
            whole = st.number_input(
                _("All together at most, {unit}", unit=unit),
                value=scale / 100,
                key=f"error-total-{space.model}",
                width=250,
                **field,
            )
            if job is not None and job.running:
                st.button(
                    _("Cancel"),
                    icon=":material/stop:",
                    key=f"error-cancel-{space.model}",
                    disabled=job.stopped,
                    on_click=job.stop,
                )
            elif st.button(_("Start"), icon=":material/play_arrow:", key=f"error-start-{space.model}"):
                from .scan import locks

                terms = Terms(float(each) / scale, float(whole) / scale)
                settings = {"device": st.session_state.get("device"), "user": (user(), "error")}
                start(names(space)[0], terms, partial(_steps, subject, locks(space.history.present), terms, settings))
                st.rerun()
        if job is not None:
            _trace(space, subject, job)


def _steps(subject: Subject, base: Any, terms: Terms, settings: dict[str, Any], tell: Any, cancel: Any) -> Any:
    yield from prune_by_error_steps(subject, base, terms, progress=tell, cancel=cancel, **settings)


def _trace(space: Workspace, subject: Subject, job: Job) -> None:
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
    found: ErrorPruning | None = job.latest
    if found is None or not found.trace:
        if job.running:
            bars.bar(job, _("leaving every unit out once …"))
        elif not job.error:
            st.caption(_("cancelled"))
        return
    lower = found.metric in subject.task.lower_is_better
    gone = sum(trial.removed for trial in found.trace)
    left = ", ".join(
        _("{group}: {kept} {units} stay", group=name, kept=kept, units=units.many(units.kind_of(subject, name)))
        for name, kept in found.kept.items()
    )
    cost = fmt.change(found.metric, found.total if lower else -found.total)
    state = _("going on") if job.running else _("done") if found.complete else _("stopped early")
    st.markdown(
        _("**{gone} units go** ({state}): {cost} {metric} on {n} training samples; {left}.", gone=gone, state=state, cost=cost,
          metric=metric_name(found.metric), n=f"{found.n:,}", left=left)
    )  # fmt: skip
    st.dataframe(
        pd.DataFrame(rows(subject, found)),
        hide_index=True,
        height=260,
        column_config={_("why"): st.column_config.TextColumn(width="large")},
    )
    st.button(
        _("Remove these units"), icon=":material/check:", key=f"error-use-{space.model}", type="primary", disabled=job.running or not gone,
        on_click=lambda: space.replace(space.history.push(found.recipe)), help=_("Replaces the recipe, in one step that Undo takes back; locks stay."),
    )  # fmt: skip


def rows(subject: Subject, found: ErrorPruning) -> list[dict[str, Any]]:
    """The last decisions; a unit is called what its group's units are called."""
    lower = found.metric in subject.task.lower_is_better
    kinds = {t.group: units.one(units.kind_of(subject, t.group)) for t in found.trace}
    mixed = len(set(kinds.values())) > 1  # then every row names its own
    word = _("unit") if mixed else next(iter(kinds.values()))
    return [
        {_("group"): t.group, word: f"{kinds[t.group]} {t.unit}" if mixed else t.unit, _("costs"): fmt.change(found.metric, t.cost if lower else -t.cost),
         _("in all"): fmt.change(found.metric, t.total if lower else -t.total), _("goes"): t.removed, _("why"): translated(t.reason)}
        for t in found.trace[-SHOWN:]
    ]  # fmt: skip
