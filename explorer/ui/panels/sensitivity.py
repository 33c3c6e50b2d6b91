"""The tab Sensitivity: a scan beside the page, its curves as they sharpen, a click that takes a step over into the recipe."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from html import escape

import pandas as pd
import streamlit as st

import explorer
from explorer.evaluate.compare import Progress
from explorer.figures.sensitivity import Words, multiples, overlay
from explorer.models.subject import Subject
from explorer.studies.curve_table import targets_in
from explorer.studies.ranking import curves, gains

from .. import format as fmt
from .. import style, units
from ..i18n import _, translated
from ..jobs import Job, current
from ..state import Workspace
from . import error_based, suggest
from .scan import Asked, choose, name_of
from .scoreboard import metric_name, split_name

EVERY = 1.0  # seconds between two looks at a scan


def render(space: Workspace, subject: Subject) -> None:
    """Controls, curves, suggestion; and below, pruning by error. A fragment, which looks again while anything is on its way."""
    polling = any(one.running for one in _watched(space))
    st.fragment(_panel, run_every=EVERY if polling else None)(space, subject, polling)


def _watched(space: Workspace) -> list[Job]:
    mine = [name_of(space), *suggest.names(space), *error_based.names(space)]
    return [job for name in mine if (job := current(name)) is not None]


def _panel(space: Workspace, subject: Subject, polling: bool) -> None:
    on = any(one.running for one in _watched(space))  # before anything is drawn: what ends meanwhile is drawn once more
    if space.stale:  # a click set a step: the histogram and the figures show it too
        st.rerun()
    asked = choose(space, subject)
    job = current(name_of(space))
    if job is not None:
        _state(job, asked)
        latest = job.latest
        if latest is not None:
            _curves(space, subject, job, *latest)
            suggest.render(space, subject, latest[0], job.key, _not_yet(job, latest[1]))
    else:
        st.caption(
            _(
                "Every layer is changed alone, step by step, and the model is evaluated each time: which layers can lose much, and which cannot?"
            )
        )
    error_based.render(space, subject)
    if polling and not on and space.live is None:  # no more looks are needed; a drag that is on is not interrupted
        st.rerun()


def _not_yet(job: Job, at: Progress) -> str:
    """Why nothing can be suggested from the curves as they are, or ""."""
    if job.running:
        return _("Available when the scan has ended.")
    if not at.settled:
        return _("No point of the scan is finished, so there is nothing to go by: let it go on first.")
    return ""


def _state(job: Job, asked: Asked) -> None:
    """How far the scan is, and what it was asked for if that is not what the controls say now."""
    pieces = []
    if job.latest is not None:
        _table, at = job.latest
        if job.running or job.cancelled:
            left = job.spent / max(at.done, 1) * (at.total - at.done)
            text = _("{done} of {total} points finished", done=at.settled, total=len(at.estimates))
            if at.settled:  # before, the pace is that of warming up
                text += ", " + _("at most {left} left", left=fmt.duration(left))
            if job.cancelled:
                text = _("cancelled: {done} of {total} points finished", done=at.settled, total=len(at.estimates))
            pieces.append(
                f'<span class="x-bar"><i style="width:{100 * at.done / max(at.total, 1):.0f}%"></i></span><span>{escape(text)}</span>'
            )
        else:
            text = _("{total} points in {spent} s", total=len(at.estimates), spent=f"{job.spent:.1f}")
            pieces.append(f"<span>✓ {escape(text)}</span>")
    elif job.running:
        pieces.append(f"<span>{escape(_('first curves in a moment …'))}</span>")
    elif job.cancelled:
        pieces.append(f"<span>{escape(_('cancelled before the first curves'))}</span>")
    if job.key != asked and not job.running:
        pieces.append(f"<span>{escape(_('the curves below are those of the former settings'))}</span>")
    st.html(
        f'<div class="x-strip" data-scan="{"running" if job.running else "done"}" aria-live="polite">{"".join(pieces)}</div>'
    )
    if job.error:
        st.error(translated(job.error), icon=":material/error:")


def _curves(space: Workspace, subject: Subject, job: Job, table: pd.DataFrame, at: Progress) -> None:
    view = st.segmented_control(
        _("View"), ["multiples", "overlay", "table"], default="multiples", required=True, label_visibility="collapsed", key=f"scan-view-{space.model}",
        format_func={"multiples": _("One panel each"), "overlay": _("All in one"), "table": _("Table")}.__getitem__,
    )  # fmt: skip
    _explain(table, job)
    if view == "table":
        st.dataframe(_shown(table), hide_index=True, height=420)
        st.download_button(
            _("Download CSV"),
            table.to_csv(index=False),
            f"{subject.name}-sensitivity.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        return
    key = f"scan-figure-{view}-{space.model}-{space.generation}"
    # by this table's progress: the job may be further by now
    drawn = (at.done, at.settled, view, space.generation, style.is_dark(), _("sparsity"))
    kept = st.session_state.get("scan-drawn")
    if kept is None or kept[0] is not job or kept[1] != drawn:
        draw = multiples if view == "multiples" else overlay
        kept = (job, drawn, draw(table, style.colours(), _words(table), _marks(space, subject, table)))
        st.session_state["scan-drawn"] = kept
    st.plotly_chart(
        kept[2], key=key, config={"displayModeBar": False}, selection_mode="points", on_select=partial(_clicked, space, table, key),
    )  # fmt: skip


def _words(table: pd.DataFrame) -> Words:
    name = metric_name(table.attrs["metric"])
    unit = _("points") if fmt.is_fraction(table.attrs["metric"]) else ""
    change = _("change of {metric}", metric=name) + (f" ({unit})" if unit else "")
    by = _("bits") if table.attrs["sweep"].by == "bits" else _("sparsity")
    return Words(by, change, "n", _("of the weights"), _("of the MACs"), _("units"), _("click: set this in the recipe"))


def _explain(table: pd.DataFrame, job: Job) -> None:
    """Where the figures come from, what the bands are, and why some points lie above zero."""
    low, high = int(table["n"].min()), int(table["n"].max())
    n = f"{low:,}" if low == high else f"{low:,} … {high:,}"
    words = _words(table)
    text = _("{change} over {point}.", change=words.change[:1].upper() + words.change[1:], point=words.point) + " "
    text += _(
        "Measured on the {split} split, n = {n} a point, each against the original on the same samples.",
        split=split_name(table.attrs["split"]),
        n=n,
    )
    if table["change_low"].notna().any():
        text += " " + _("Bands: paired 95 % intervals.")
    else:
        text += " " + _(
            "For {metric} there is no dependable interval, hence no bands.", metric=metric_name(table.attrs["metric"])
        )
    text += " " + _("From blue, robust, to orange, sensitive.")
    if (table["granularity"] == "unit").any():
        text += " " + _(
            "Dashed: units of a group. Its share (≤) is of all that would go with its units, the columns that read them included: groups overlap, so their shares sum to more than 100 %."
        )
    better, clear = gains(table)
    if better and table["change_low"].notna().any():
        text += " " + _(
            "Above the line of no change: {better} of {total} points; with less, the model answers a few of these samples better. Of these, {noise} have an interval that "
            "includes no change: chance, as some of many points must show.",
            better=better, total=len(curves(table)), noise=better - clear,
        )  # fmt: skip
    elif better:
        text += " " + _(
            "Above the line of no change: {better} of {total} points; with less, the model is a little better on these samples. Without an interval, take it as chance.",
            better=better, total=len(curves(table)),
        )
    st.caption(text)
    skipped = table.attrs["skipped"]
    if skipped:
        with st.expander(_("{n} could not be scanned", n=len(skipped))):
            st.markdown("\n".join(f"- `{name}`: {translated(why)}" for name, why in skipped.items()))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """As people read it: percent and points for fractions; the file to download has the package's own columns."""
    found, by, metric = curves(table), table.attrs["sweep"].by, table.attrs["metric"]
    percent = fmt.is_fraction(metric)
    name, unit = metric_name(metric), 100.0 if percent else 1.0
    places, change = (2, _("change (points)")) if percent else (4, _("change"))
    columns = {
        _("layer or group"): found["target"],
        _("kind"): [units.one(kind) if group else units.layer(kind) for kind, group in zip(found["kind"], found["group"], strict=True)],
        _("bits") if by == "bits" else _("sparsity") + " (%)": found[by] if by == "bits" else (100 * found[by]).round(1),
        name + (" (%)" if percent else ""): (unit * found["metric"]).round(places),
        change: (unit * found["change"]).round(places),
        _("from"): (unit * found["change_low"].astype(float)).round(places),
        _("to"): (unit * found["change_high"].astype(float)).round(places),
        "n": found["n"],
        _("share of the weights (%)"): (100 * found["parameters"]).round(2),
        _("share of the MACs (%)"): (100 * found["macs"].astype(float)).round(2),
    }
    return pd.DataFrame(columns)


def _marks(space: Workspace, subject: Subject, table: pd.DataFrame) -> dict[str, float]:
    """{target: the step that the recipe has now}."""
    plan = explorer.resolve(subject, space.history.present)
    by, out = table.attrs["sweep"].by, {}
    sizes = {group.name: group.units for group in subject.groups}
    for name, (target, _rows) in targets_in(table).items():
        if by == "bits":
            if target.rule in plan.codes:
                out[name] = float(plan.codes[target.rule].bits)
        elif target.group and target.group in plan.kept:
            units = sizes[target.group]
            out[name] = _nearest(table, 1 - len(plan.kept[target.group]) / units, 0.5 / units)
        elif not target.group and target.rule in plan.layers:
            out[name] = _nearest(table, plan.cut_fraction(target.rule), 0.005)
    return out


def _nearest(table: pd.DataFrame, value: float, within: float) -> float:
    """The step that a fraction comes from by rounding."""
    best = min(set(table["sparsity"]), key=lambda step: abs(step - value))
    return best if abs(best - value) <= within + 1e-9 else value


def _clicked(space: Workspace, table: pd.DataFrame, key: str) -> None:
    """Take the step that was clicked over into the recipe: one undo step; the layer is shown above."""
    points = ((st.session_state.get(key) or {}).get("selection") or {}).get("points") or []
    data = next((point["customdata"] for point in points if point.get("customdata")), None)
    if data:
        take(space, table, str(data[0]), float(data[1]))


def take(space: Workspace, table: pd.DataFrame, name: str, point: float) -> None:
    """Set one layer or group to a step of its curve."""
    sweep, (target, _rows) = table.attrs["sweep"], targets_in(table)[name]
    space.select(target.layers[0])
    if sweep.by == "sparsity":
        space.chosen = replace(space.chosen, granularity=target.granularity, criterion=sweep.criterion, mode=sweep.mode)
    space.replace(space.history.push(sweep.edit(space.history.present, target, point)))
