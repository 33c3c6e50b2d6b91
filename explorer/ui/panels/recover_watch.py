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
from explorer.models.subject import Subject
from explorer.recover.checkpoint import Stand
from explorer.recover.jobs import CANCELLED, FAILED, INTERRUPTED, RUNNING, WAITING, Job, jobs
from explorer.recover.store import BOARD

from .. import format as fmt
from .. import recovered, style, units
from ..i18n import _, translated
from ..owner import owner
from .card import what
from .scoreboard import metric_name

TICK = 1.0  # seconds between two drawings
LAST = 6  # decisions that are told at once


def render(subject: Subject, job: Job | None, original: float | None) -> None:
    """The chosen job; while it runs, a timer draws it again and leaves the rest of the page alone. subject: what it began with;
    original: that one's metric, to compare with."""
    if job is None:
        st.caption(
            _("Pruning without retraining shows only the damage. Start at the left; what comes back is drawn here.")
        )
        return
    st.fragment(_draw, run_every=None if job.over else TICK)(subject, job, job.state, original)


def _draw(subject: Subject, job: Job, was: str, original: float | None) -> None:
    if job.state != was:  # the board and the list say it, too
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        if not job.over:
            st.progress(share(job), progress(job))
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
    if goes_on(job):
        if str(job.told["what"]) != "recalibration":
            st.caption(stood(jobs().stand(job)))
        _go_on(job)
    if job.steps or len(job.curve) > 1:  # before, there is no curve
        _curves(job, original)
    if job.board:
        _board(job)
    _notes(subject, job)


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
        _("Loss: thin for batches, with points for epochs."),
        _("Across: steps of the optimizer."),
    ]
    st.caption(" ".join(filter(None, said)))


def _notes(subject: Subject, job: Job) -> None:
    """What was decided on the way: the last of it, and all when it is over."""
    abouts = [about(note, units.one(known) if (known := units.kind_of(subject, str(note.values.get("group")))) else "") for note in job.notes]
    for whose, note in list(zip(abouts, job.notes, strict=False))[-LAST:]:  # notes may come meanwhile
        st.caption(" · ".join(filter(None, (*whose, translated(note.text)))))
    if job.over and len(job.notes) > LAST:
        with st.expander(_("All {n} decisions", n=len(job.notes)), icon=":material/list:"):
            epochs, whats = zip(*abouts, strict=True)
            table = {_("epoch"): epochs, _("what"): whats, _("decision"): [translated(note.text) for note in job.notes]}
            st.dataframe(table, hide_index=True)


def about(note: Note, word: str = "") -> tuple[str, str]:
    """(epoch, the unit) that a decision is about, "" where it is about none. word: what that group's units are called, where it is known."""
    group, unit = note.values.get("group"), note.values.get("unit")
    return (
        _("epoch {epoch}", epoch=note.epoch) if note.epoch else "",
        _("{group}, {unit} {n}", group=group, unit=word or _("unit"), n=unit) if group is not None and unit is not None else "",
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


def share(job: Job) -> float:
    """How full the bar is: of all steps, and before the first one, of what goes on instead."""
    stage = job.stage
    done, total = stage[1:] if stage is not None and not job.steps else (job.done, job.total)
    return min(1.0, done / max(1, total))


def progress(job: Job) -> str:
    """How far it is, in words; the time left is known from the first steps on."""
    if job.ending:
        return _("Cancelling …")
    if job.state == WAITING:
        return _("waiting for the device")
    done, total, now = f"{job.done:,}", f"{job.total:,}", stage(job)
    if not job.steps:
        return now or (_("{done} of {total}", done=done, total=total) if job.total else _("preparing"))
    said = _("epoch {epoch} of {epochs}, step {done} of {total}", epoch=job.steps[-1].epoch, epochs=job.curve[0].epochs, done=done, total=total)
    if not now and job.left is not None:
        now = _("{left} left", left=fmt.duration(job.left))
    return " · ".join(filter(None, (said, now)))


def stage(job: Job) -> str:
    """What goes on where no steps are taken, "" while they are."""
    if job.stage is None:
        return ""
    what, done, total = job.stage
    return " · ".join(filter(None, (translated(what), _("{done} of {total} samples", done=f"{done:,}", total=f"{total:,}") if total else "")))


def stood(found: Stand | None) -> str:
    """How far a job was when it was broken off, and what it had come to."""
    if found is None:
        return _("There is no checkpoint of it yet: it begins anew.")
    at = {"epoch": found.epoch, "epochs": found.epochs, "done": f"{found.step:,}", "total": f"{found.steps:,}"}
    said = [_("Its checkpoint: epoch {epoch} of {epochs}, step {done} of {total}", **at) if found.steps else _("Its checkpoint: epoch {epoch} of {epochs}", **at)]
    last, best = found.curve[-1], [one for one in found.curve if one.best and one.epoch]
    name = metric_name(last.metric)
    if last.epoch:
        said.append(_("{metric} {value} after epoch {epoch}", metric=name, value=fmt.metric(last.metric, last.figure.value), epoch=last.epoch))
    else:
        said.append(_("{metric} {value} before the first epoch", metric=name, value=fmt.metric(last.metric, last.figure.value)))
    if best and best[-1] is not last:
        said.append(_("best so far {value}", value=fmt.metric(last.metric, best[-1].figure.value)))
    return _("{said}. It goes on from there.", said=" · ".join(said))


def kind(job: Job) -> str:
    """What a job does, on screen."""
    return what(str(job.told["what"]))


def goes_on(job: Job) -> bool:
    """Whether a job that was broken off may come further from where it was."""
    return job.state in (INTERRUPTED, FAILED) and not job.final


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
