"""A job as it goes: how far, how long still, the curves; cancel, go on."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.core.training import Epoch, Note
from explorer.figures.training import training
from explorer.files.limits import shared
from explorer.recover.jobs import CANCELLED, FAILED, INTERRUPTED, RUNNING, WAITING, Job, jobs
from explorer.recover.store import BOARD

from .. import format as fmt
from .. import recovered, style
from ..i18n import _, translated
from ..owner import owner
from .card import what
from .scoreboard import metric_name

TICK = 1.0  # seconds between two drawings
LAST = 6  # decisions that are told at once


def render(job: Job | None, original: float | None) -> None:
    """The chosen job; while it runs, a timer draws it again and leaves the rest of the page alone. original: the metric of the
    model that was there before, to compare with."""
    if job is None:
        st.caption(
            _("Pruning without retraining shows only the damage. Start at the left; what comes back is drawn here.")
        )
        return
    st.fragment(_draw, run_every=None if job.over else TICK)(job, job.over, original)


def _draw(job: Job, was_over: bool, original: float | None) -> None:
    if job.over and not was_over:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        if not job.over:
            st.progress(min(1.0, job.done / max(1, job.total)), progress(job))
            st.button(
                _("Cancel"),
                icon=":material/stop:",
                key=f"cancel-{job.id}",
                disabled=job.ending,
                on_click=jobs().cancel,
                args=(owner(), job.id),
            )
        else:
            st.markdown(f"**{kind(job)}** · {state_name(job)}")
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
    if job.state in (INTERRUPTED, FAILED):
        _go_on(job)
    if job.curve and str(job.told["what"]) != "recalibration":
        _curves(job, original)
    if job.board:
        _board(job)
    _notes(job)


def _curves(job: Job, original: float | None) -> None:
    curve: list[Epoch] = list(job.curve)
    metric = curve[0].metric
    names = (
        _("{metric}, validation, n = {n}", metric=metric_name(metric), n=f"{curve[0].figure.n:,}"), _("Loss, training"), _("Sparsity"),
        _("Learning rate"),
    )  # fmt: skip
    figure = training(
        curve,
        list(job.steps),
        style.colours(),
        names,
        original,
        fmt.is_fraction(metric),
        None if job.over else job.total,
    )
    st.plotly_chart(figure, key=f"curves-{job.id}", config={"displayModeBar": False})
    said = [
        _("Green: the best so far."),
        _("Band: 95 % interval.") if curve[0].figure.low is not None else "",
        _("Dotted: the original.") if original is not None else "",
        _("Across: steps of the optimizer."),
    ]
    st.caption(" ".join(filter(None, said)))


def _notes(job: Job) -> None:
    """What was decided on the way: the last of it, and all when it is over."""
    for note in job.notes[-LAST:]:
        st.caption(" · ".join(filter(None, (*about(note), translated(note.text)))))
    if job.over and len(job.notes) > LAST:
        with st.expander(_("All {n} decisions", n=len(job.notes)), icon=":material/list:"):
            epochs, whats = zip(*map(about, job.notes), strict=True)
            table = {_("epoch"): epochs, _("what"): whats, _("decision"): [translated(note.text) for note in job.notes]}
            st.dataframe(table, hide_index=True)


def about(note: Note) -> tuple[str, str]:
    """(epoch, the unit) that a decision is about, "" where it is about none."""
    group, unit = note.values.get("group"), note.values.get("unit")
    return (
        _("epoch {epoch}", epoch=note.epoch) if note.epoch else "",
        _("{group}, unit {unit}", group=group, unit=unit) if group is not None and unit is not None else "",
    )


def _board(job: Job) -> None:
    """Where the event files are: at this machine by their folder, elsewhere as a download."""
    folder = jobs().store.root / job.id / BOARD
    if not shared() and st.context.ip_address is None:
        st.code(f'tensorboard --logdir "{folder}"', language="bash")
    elif job.over and folder.is_dir():
        st.download_button(
            _("TensorBoard files"), lambda: zipped(folder), f"tensorboard-{job.id}.zip", "application/zip", icon=":material/download:",
            key=f"board-{job.id}", on_click="ignore",
        )  # fmt: skip


def zipped(folder: Path) -> bytes:
    """A folder's files in one zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(one for one in folder.rglob("*") if one.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    return out.getvalue()


def progress(job: Job) -> str:
    """How far it is, in words; the time left is known from the first steps on."""
    if job.ending:
        return _("Cancelling …")
    if job.state == WAITING:
        return _("waiting for the device")
    done, total = f"{job.done:,}", f"{job.total:,}"
    if not job.curve:
        return _("{done} of {total}", done=done, total=total) if job.total else state_name(job)
    epochs = job.curve[0].epochs
    if not job.steps:
        return _("epoch {epoch} of {epochs}", epoch=1, epochs=epochs)
    said = _("epoch {epoch} of {epochs}, step {done} of {total}", epoch=job.steps[-1].epoch, epochs=epochs, done=done, total=total)
    return said if job.left is None else said + " · " + _("{left} left", left=fmt.duration(job.left))


def kind(job: Job) -> str:
    """What a job does, on screen."""
    return what(str(job.told["what"]))


def state_name(job: Job) -> str:
    """How a job stands, on screen."""
    if job.state == CANCELLED and not job.made:
        return _("cancelled; nothing was changed")
    return {
        WAITING: _("waiting"), RUNNING: _("running"), "done": _("done"), "cancelled": _("cancelled; the best so far is kept"),
        FAILED: _("failed"), INTERRUPTED: _("interrupted"),
    }[job.state]  # fmt: skip


def _go_on(job: Job) -> None:
    if st.button(_("Go on"), icon=":material/play_arrow:", key=f"resume-{job.id}"):
        try:
            begun = recovered.start(job)
            jobs().resume(owner(), job.id, begun, recovered.session(begun))
        except ExplorerError as error:
            st.error(translated(error), icon=":material/error:")
        else:
            st.rerun()
