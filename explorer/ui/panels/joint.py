"""Sparsity x bits: the map fills in the background while the page is used; any known cell can be picked and its recipe taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import streamlit as st

import explorer
from explorer.core.joint import UNQUANTIZED, Cell, frontier
from explorer.models.subject import Subject
from explorer.studies.joint_map import BITS, SPARSITIES

from .. import bars, jobs
from .. import format as fmt
from ..components.map import cell_map
from ..i18n import _, translated
from ..state import Workspace
from .scoreboard import metric_name

NAME, KEY, PICKED = "joint", "joint-map", "joint-picked"
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

    st.session_state.pop(PICKED, None)
    jobs.start(NAME, (subject.name, layers), work)


def _draw(space: Workspace, subject: Subject, job: jobs.Job) -> None:
    """The map as far as it is known; while it fills, a timer draws it again, and a click is answered in between."""
    layers = job.key[1]  # type: ignore[index]
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
        return
    known: dict[tuple[int, int], Cell] = {(cell.row, cell.column): cell for cell in list(job.found)}
    chosen = known.get(st.session_state.get(PICKED))  # type: ignore[arg-type]
    metric = next(iter(known.values())).metric if known else ""
    running = job.running
    left, right = st.columns([13, 6], gap="large")
    with left:
        cell_map(data(known, chosen, str(id(job)), metric in subject.task.lower_is_better, subject.layers[0].dtype), KEY, _picked)
    with right:
        st.markdown(f"**{_('all layers') if layers == ALL else layers}** · {metric_name(metric) if metric else ''}")
        if running:
            bars.bar(job, _progress(known, len(SPARSITIES) * len(BITS)))
        elif job.cancelled:
            st.caption(_("Cancelled: {n} of {total} cells known.", n=len(known), total=len(SPARSITIES) * len(BITS)))
        st.caption(_("Each cell: the metric (measured on validation; ~ on a part of it) and its bytes (counted)."))
        if chosen is not None:
            _offer(space, chosen)
        elif known:
            st.caption(_("Click a cell to take its recipe."))
    if not running and st.session_state.get("joint-drawn") != id(job):
        st.session_state["joint-drawn"] = id(job)
        st.rerun()  # once more, without the timer


def _progress(known: Mapping[tuple[int, int], Cell], total: int) -> str:
    """How far a map is: first all cells are seen over some samples, then over all."""
    if len(known) < total:
        return _("{n} of {total} cells known", n=len(known), total=total)
    return _("{n} of {total} cells seen over all samples", n=sum(cell.complete for cell in known.values()), total=total)


def _picked() -> None:
    at = (st.session_state.get(KEY) or {}).get("pick")
    if isinstance(at, (list, tuple)) and len(at) == 2:
        st.session_state[PICKED] = (at[0], at[1])


def data(known: Mapping[tuple[int, int], Cell], chosen: Cell | None, id: str, lower: bool, dtype: str = "fp32") -> dict[str, Any]:
    """What the component draws; ``id`` names the map, so that another one starts empty; ``dtype``: what weights without bits are."""
    best = {(cell.row, cell.column) for cell in frontier(known.values(), lower)}
    values = [cell.value for cell in known.values() if cell.value == cell.value]
    low, high = min(values, default=0.0), max(values, default=1.0)

    def shade(value: float) -> float:
        part = (value - low) / (high - low or 1.0) if value == value else 0.0
        return 1 - part if lower else part

    cells = [
        {
            "row": row, "column": column, "value": _short(cell), "size": fmt.size(cell.bytes), "title": _title(cell), "complete": cell.complete,
            "shade": round(shade(cell.value), 3), "best": (row, column) in best,
        }
        for (row, column), cell in sorted(known.items())
    ]  # fmt: skip
    text = {
        "label": _("Sparsity × bits"), "corner": _("bits") + " ╲ " + _("sparsity"),
        "frontier": _("Pareto frontier: no other cell is as small and better, or as good and smaller"),
    }  # fmt: skip
    return {
        "id": id, "rows": [dtype if one == UNQUANTIZED else str(one) for one in BITS], "columns": [fmt.percent(one, 0) for one in SPARSITIES],
        "cells": cells, "chosen": [chosen.row, chosen.column] if chosen else None, "text": text,
    }  # fmt: skip


def _short(cell: Cell) -> str:
    return (
        f"{100 * cell.value:.1f}"
        if fmt.is_fraction(cell.metric) and cell.value == cell.value
        else fmt.metric(cell.metric, cell.value)
    )


def _title(cell: Cell) -> str:
    """Everything that is known of a cell, a line each."""
    bits = _("weights as they are") if cell.bits == UNQUANTIZED else _("{bits} bits", bits=cell.bits)
    return "\n".join(
        (
            f"{_('Sparsity')} {fmt.percent(cell.sparsity, 0)} · {bits}",
            f"{metric_name(cell.metric)} {fmt.metric(cell.metric, cell.value)} ({fmt.change(cell.metric, cell.change)}), n = {cell.n:,}",
            f"{cell.bytes:,} B ({_('counted')})",
        )
    )


def _offer(space: Workspace, cell: Cell) -> None:
    lines = _title(cell).split("\n")
    st.markdown("**" + lines[0] + "**  \n" + "  \n".join(lines[1:]))
    if st.button(_("Use this recipe"), key="joint-use", type="primary", icon=":material/check:"):
        space.replace(space.history.push(cell.recipe))
        st.rerun()
