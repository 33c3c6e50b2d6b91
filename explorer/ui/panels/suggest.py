"""Per-layer steps from the curves for a goal, with the reason for each; taken over as one undo step."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

import explorer
from explorer.models.stored import stored_bytes
from explorer.models.subject import Subject
from explorer.studies.suggest import Suggestion

from .. import bars
from .. import format as fmt
from ..i18n import _, help_for, translated
from ..jobs import current, start
from ..state import Workspace, user
from .scoreboard import metric_name, split_name


def names(space: Workspace) -> list[str]:
    """Of the session's jobs, those of this panel."""
    return [f"suggest/{space.model}"]


def render(space: Workspace, subject: Subject, table: pd.DataFrame, asked: Any, why: str) -> None:
    """A goal, a button; then what was found. why: the curves are not enough to suggest from, "" where they are."""
    st.html(f'<div class="x-head"><b>{_("Suggest per-layer steps")}</b></div>')
    job = current(names(space)[0])
    goals = {"size": _("size of the model"), "drop": _("accepted drop"), "sparsity": _("sparsity of all weights")}
    sweep = table.attrs["sweep"]
    options = [goal for goal in goals if goal != "sparsity" or (sweep.by == "sparsity" and sweep.mode == "hard")]
    metric = table.attrs["metric"]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="row-suggest"):
        goal = st.segmented_control(
            _("Goal"), options, default=options[0], required=True, format_func=goals.__getitem__, key=f"goal-{space.model}-{len(options)}", width="content",
            help=help_for("term", "suggested steps", ""),
        )  # fmt: skip
        wanted = _wanted(space, subject, str(goal), metric)
        busy = job is not None and job.running
        if busy:
            st.button(
                _("Cancel"),
                icon=":material/stop:",
                key=f"suggest-cancel-{space.model}",
                on_click=job.stop if job else None,
            )
        elif st.button(
            _("Suggest"), icon=":material/auto_awesome:", key=f"suggest-start-{space.model}", disabled=bool(why),
        ):  # fmt: skip
            start(
                names(space)[0],
                asked,
                partial(_steps, subject, table, {str(goal): wanted}, st.session_state.get("device"), user()),
            )
            st.rerun()
    if why:
        st.caption(why)
    if job is None or job.key != asked:
        return
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
    elif job.latest is None:
        going = _(
            "measuring how far the path may go: {done} of at most {total} evaluations",
            done=job.done,
            total=job.total or "…",
        )
        st.caption(bars.said(going, job.spent, job.done, job.total) if job.running else _("cancelled"))
    else:
        _result(space, job.latest, table)


def _wanted(space: Workspace, subject: Subject, goal: str, metric: str) -> float:
    """The goal's value in the package's unit: bytes or a fraction."""
    if goal == "size":
        full = sum(p.numel() * stored_bytes(subject.module, name, p) for name, p in subject.module.named_parameters()) / 1000
        kilo = st.number_input(
            _("at most, kB"),
            0.1,
            value=round(full / 3, 1),
            step=max(round(full / 50, 1), 0.1),
            key=f"goal-size-{space.model}",
            width=150,
        )
        return 1000 * float(kilo)
    if goal == "drop":
        if fmt.is_fraction(metric):
            points = st.number_input(
                _("at most, points of {metric}", metric=metric_name(metric)),
                0.0,
                100.0,
                1.0,
                0.1,
                key=f"goal-drop-{space.model}",
                width=220,
            )
            return float(points) / 100
        value = st.number_input(
            _("at most, {metric}", metric=metric_name(metric)),
            0.0,
            value=0.02,
            step=0.01,
            format="%.3f",
            key=f"goal-value-{space.model}",
            width=220,
        )
        return float(value)
    percent = st.number_input(_("at least, %"), 0, 99, 60, 1, key=f"goal-sparsity-{space.model}", width=150)
    return int(percent) / 100


def _steps(
    subject: Subject, table: pd.DataFrame, goal: dict[str, float], device: Any, who: str, tell: Any, cancel: Any
) -> Any:
    """The suggestion; it is one step."""
    yield explorer.suggest(subject, table, device=device, progress=tell, cancel=cancel, user=(who, "suggest"), **goal)  # type: ignore[arg-type]


def _result(space: Workspace, found: Suggestion, table: pd.DataFrame) -> None:
    metric, report = table.attrs["metric"], found.report
    shown = {
        "drop": fmt.change(metric, found.measured if table.attrs["lower_is_better"] else -found.measured),
        "sum": fmt.change(metric, found.predicted if table.attrs["lower_is_better"] else -found.predicted),
    }
    st.markdown(
        _("**{drop}** {metric} measured on the {split} split (n = {n}), **{size}**, {sparsity} sparsity.",
          drop=shown["drop"], metric=metric_name(metric), split=split_name(report.split), n=f"{report.n:,}", size=fmt.size(report.bytes), sparsity=fmt.percent(report.sparsity))
        + " " + _("The layers' own changes sum to {sum}: they do not add up exactly, so the goal was checked on the whole model.", sum=shown["sum"])
    )  # fmt: skip
    bits = table.attrs["sweep"].by == "bits"

    def step(point: float | None) -> str:
        if point is None:
            return "–"
        return f"{point:.0f}" if bits else fmt.percent(point, 0)

    rows = [
        {
            _("layer or group"): one.target,
            _("bits") if bits else _("sparsity"): step(one.point),
            _("saves alone"): _saved(one.saved, found.goal),
            _("why"): translated(one.reason),
        }
        for one in found.decisions
    ]
    st.dataframe(
        pd.DataFrame(rows), hide_index=True,
        column_config={_("sparsity"): st.column_config.TextColumn(width=80), _("bits"): st.column_config.TextColumn(width=80), _("saves alone"): st.column_config.TextColumn(width=100), _("why"): st.column_config.TextColumn(width=900)},
    )
    same = space.history.present.rules == found.recipe.rules
    st.button(
        _("Use these"), icon=":material/check:", key=f"suggest-use-{space.model}", type="primary", disabled=same or not found.recipe.rules,
        on_click=lambda: space.replace(space.history.push(found.recipe)), help=_("Replaces the recipe, in one step that Undo takes back; locks stay."),
    )  # fmt: skip


def _saved(saved: float, goal: str) -> str:
    if not saved:
        return "–"
    return _("{n} weights", n=fmt.count(saved)) if goal == "sparsity" else fmt.size(saved)
