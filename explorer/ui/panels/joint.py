"""Sparsity x bits: the map fills in the background while the page is used; a click on a cell takes its recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import streamlit as st

import explorer
from explorer.core.joint import UNQUANTIZED, Cell
from explorer.figures.joint_map import joint_map
from explorer.models.subject import Subject
from explorer.studies.joint_map import BITS, SPARSITIES

from .. import format as fmt
from .. import jobs, style
from ..i18n import _, translated
from ..state import Workspace
from .scoreboard import metric_name

NAME = "joint"
TICK = 1.5  # seconds between two drawings of the map
ALL = "*"


def render(space: Workspace, subject: Subject) -> None:
    """Choose what the map is of, start it, see it fill."""
    with st.container(horizontal=True, vertical_alignment="center"):
        targets = st.pills(
            _("Map of"), ["layer", ALL], default="layer", key="joint-what", label_visibility="collapsed",
            format_func=lambda one: _("all layers") if one == ALL else space.layer,
        )  # fmt: skip
        job = jobs.current(NAME)
        busy = job is not None and job.running
        go = st.button(_("Fill the map"), type="primary", icon=":material/grid_on:", key="joint-go", disabled=busy)
        if st.button(_("Cancel"), key="joint-cancel", disabled=not busy) and job is not None:
            job.stop()
        st.caption(
            _(
                "Mask first, then quantize the survivors (min-max, a scale a channel). Few samples first, then all of validation."
            )
        )
    if go:
        _start(space, subject, ALL if targets == ALL else space.layer)
        st.rerun()
    if job is None or job.key[0] != subject.name:  # type: ignore[index]
        return
    st.fragment(_draw, run_every=TICK if busy else None)(space, subject, job)


def _start(space: Workspace, subject: Subject, layers: str) -> None:
    recipe, device = space.history.present, st.session_state.get("device")

    def work(tell: Callable[[int, int], None], ask: Callable[[], bool]) -> Iterator[Cell]:
        seen: dict[tuple[int, int], int] = {}
        for cell in explorer.joint_cells(subject, layers, recipe=recipe, device=device, cancel=ask):
            seen[cell.row, cell.column] = cell.n
            tell(sum(seen.values()), cell.total * len(SPARSITIES) * len(BITS))
            yield cell

    jobs.start(NAME, (subject.name, layers), work)


def _draw(space: Workspace, subject: Subject, job: jobs.Job) -> None:
    """The map as far as it is known; while it fills, a timer draws it again."""
    layers = job.key[1]  # type: ignore[index]
    known: dict[tuple[int, int], Cell] = {(cell.row, cell.column): cell for cell in list(job.found)}
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
        return
    left, right = st.columns([13, 6], gap="large")
    metric = next(iter(known.values())).metric if known else ""
    lower = metric in subject.task.lower_is_better
    with left:
        words = {
            "sparsity": _("sparsity"), "bits": _("bits"), "bytes": _("bytes, counted"), "samples": _("samples"),
            "frontier": _("Pareto frontier"), "none": "fp32",
        }  # fmt: skip
        figure = joint_map(
            known,
            SPARSITIES,
            BITS,
            style.colours(),
            lower_is_better=lower,
            percent=fmt.is_fraction(metric),
            texts=words,
        )
        # a chart that can be clicked is made anew with every change, and would flicker while the map fills
        click: Any = {} if job.running else {"on_select": "rerun", "selection_mode": "points"}
        event = st.plotly_chart(
            figure, key=f"joint-{job.running}-{space.generation}", config={"displayModeBar": False}, **click
        )
    with right:
        st.markdown(f"**{_('all layers') if layers == ALL else layers}** · {metric_name(metric) if metric else ''}")
        if job.running:
            st.progress(min(1.0, job.done / max(1, job.total)), _("{n} of {total} cells known", n=len(known), total=len(SPARSITIES) * len(BITS)))
        st.caption(
            _(
                "Each cell: the metric and the kilobytes counted; ~ on a part of the samples. Outlined: no other cell is smaller and as good."
            )
        )
        chosen = None if job.running else _chosen(event, known)
        if chosen is not None:
            _offer(space, chosen)
        elif not job.running:
            st.caption(_("Click a cell to take its recipe."))
    if not job.running and st.session_state.get("joint-drawn") != id(job):
        st.session_state["joint-drawn"] = id(job)
        st.rerun()  # once more, without the timer


def _chosen(event: Any, known: dict[tuple[int, int], Cell]) -> Cell | None:
    points = (event or {}).get("selection", {}).get("points", [])
    if not points:
        return None
    data = points[0].get("customdata") or [None] * 7
    return known.get((data[5], data[6])) if len(data) > 6 else None


def _offer(space: Workspace, cell: Cell) -> None:
    bits = _("weights as they are") if cell.bits == UNQUANTIZED else _("{bits} bits", bits=cell.bits)
    st.markdown(
        f"{_('Sparsity')} **{fmt.percent(cell.sparsity, 0)}** · **{bits}**: {fmt.metric(cell.metric, cell.value)} "
        f"({fmt.change(cell.metric, cell.change)}), {fmt.size(cell.bytes)}, n = {cell.n:,}"
    )
    if st.button(_("Use this recipe"), key="joint-use", type="primary", icon=":material/check:"):
        space.replace(space.history.push(cell.recipe))
        st.rerun()
