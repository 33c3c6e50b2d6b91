"""What changed: recall by class, the confusion matrices, the samples whose answer flipped, and one's own input."""

from __future__ import annotations

from html import escape

import streamlit as st

from explorer.core.report import Change, Report
from explorer.evaluate.answers import label
from explorer.evaluate.evaluator import glance
from explorer.figures.confusion import confusion
from explorer.figures.per_class import per_class
from explorer.models.subject import Subject

from .. import format as fmt
from .. import style
from ..i18n import _
from ..state import Workspace, user
from . import try_one
from .scoreboard import hurt, metric_name
from .tiles import kept, tile

SHOWN = 16


def render(space: Workspace, subject: Subject) -> None:
    """Two columns: by class, by sample; below, try one. All of the last step: while a handle moves, that is said."""
    with st.container(key="changed"):
        st.html(f'<div class="x-before">{escape(_("before this drag"))}</div>')
        _body(space, subject)


def _body(space: Workspace, subject: Subject) -> None:
    report = glance(subject, space.history.present, device=st.session_state.get("device"), user=user(), more=False)  # as the board has it
    palette = style.colours()
    if report.per_class:
        left, right = st.columns([2, 3], gap="large")
        with left:
            _classes(report, palette)
        with right:
            _flipped(subject, report)
    else:
        _flipped(subject, report)
    more = st.expander(_("Try one: see both models' answers"), icon=":material/experiment:", key="try-open", on_change="rerun")
    if more.open:  # both models are run on it
        with more:
            try_one.render(space, subject, report)


def _classes(report: Report, palette: style.Palette) -> None:
    view = st.segmented_control(
        _("View"), ["recall", "confusion"], default="recall", required=True, label_visibility="collapsed", key="class-view",
        format_func=lambda v: {"recall": _("Recall per class"), "confusion": _("Confusion matrix")}[v],
    )  # fmt: skip
    if view == "recall":
        worst = hurt(report, 1)
        said = _("{name} loses {points} points.", name=worst[0][0], points=f"{abs(100 * worst[0][1]):.1f}") if worst else _("No class loses.")
        st.caption(_("Grey: before, blue: after.") + f" **{said}**")
        st.plotly_chart(per_class(report.per_class, palette, _("before"), _("after")), key="recall-figure", config={"displayModeBar": False})
    else:
        names = list(report.per_class)
        before, after = report.confusion
        which = st.segmented_control(
            _("When"), ["after", "before"], default="after", required=True, label_visibility="collapsed", key="confusion-when",
            format_func=lambda v: {"after": _("after"), "before": _("before")}[v],
        )  # fmt: skip
        matrix = after if which == "after" else before
        st.plotly_chart(confusion(matrix, names, palette, _("target"), _("answer")), key="confusion-figure", config={"displayModeBar": False})


def _flipped(subject: Subject, report: Report) -> None:
    total = len(report.changed)
    if report.task == "classification":
        kinds: dict[str, list[Change]] = {"now wrong": [], "wrong differently": [], "now right": []}
        for change in report.changed:  # in the order of the split
            kinds[change.kind].append(change)
        counts = {kind: len(found) for kind, found in kinds.items()}
        st.caption(
            _("{total} of {n} answers changed: {wrong} now wrong, {right} now right, {other} wrong differently", total=f"{total:,}", n=f"{report.n:,}",
              wrong=f"{counts['now wrong']:,}", right=f"{counts['now right']:,}", other=f"{counts['wrong differently']:,}")
        )  # fmt: skip
        chosen = [change for found in kinds.values() for change in found[:SHOWN]][:SHOWN]
    else:
        what = {
            "language_model": _("cross-entropy of the sequence, nats a token"),
            "regression": _("the answer"),
        }.get(report.task, metric_name(report.main))
        st.caption(_("The largest changes of {n} samples, before → after: {what}", n=f"{report.n:,}", what=what))
        chosen = list(report.changed[:SHOWN])
    if not chosen:
        st.info(_("Every answer is the original's."), icon=":material/check:")
        return
    tiles = []
    for change in chosen:
        if report.task == "classification":
            was, now = label(subject, int(change.before)), label(subject, int(change.after))
            captions = [("", was), ("x-better" if change.kind == "now right" else "x-worse", f"→ {now}")]
            title = _("sample {i}, target {target}", i=change.index, target=label(subject, int(change.target or 0)))
        else:
            captions = [("", fmt.significant(change.before)), ("", f"→ {fmt.significant(change.after)}")]
            title = _("sample {i}", i=change.index)
            if change.target is not None:
                captions.append(("", _("target {t}", t=fmt.significant(change.target))))
        tiles.append(tile(kept(subject, report.split, change.index), captions, title))
    wide = f" x-wide x-{subject.task.display}" if subject.task.display in ("text", "table") and report.task != "classification" else ""
    st.html(f'<div class="x-tiles{wide}">{"".join(tiles)}</div>')
