"""Open a model file, and data to judge it on: upload, map, look at ten examples, check, open."""

from __future__ import annotations

import streamlit as st

import explorer
from explorer.core.errors import ExplorerError
from explorer.evaluate.answers import label, show
from explorer.files.limits import shared
from explorer.files.mapping import KINDS, TYPES, Mapping, propose, task_of
from explorer.files.sanity import check
from explorer.models.subject import Subject
from explorer.models.task import Task

from .. import format as fmt
from .. import models, uploads
from ..i18n import _, translated
from .scoreboard import metric_name
from .tiles import tile

EXAMPLES = 10
NONE, FILE = "none", "file"


def button() -> None:
    """What opens the dialog."""
    if st.button(_("Open…"), icon=":material/folder_open:", key="open-file", help=_("Open a model of your own")):
        st.dialog(_("Open a model of your own"), width="large")(_dialog)()


def _dialog() -> None:
    st.caption(_("An export of this app (zip or .safetensors), .safetensors, .pt2, .onnx (with external data: a zip of all of its files), or a state dict saved by torch.save. No code in a file is executed."))
    if shared():
        st.caption(_("This server is shared: what you send is seen by this session alone and gone with it."))
    sent = st.file_uploader(_("Model file"), key="open-model")
    if sent is None:
        return
    received = uploads.model(sent)
    if received.error is not None:
        refused(received.error)
        return
    found: Subject = received.value
    _summary(found, received)
    task = _task(found) if found.card["forward"] else None
    if not found.card["forward"]:
        st.info(_("Weights only: histograms, thresholds, sizes and quantization errors work. To evaluate, open an export or a .pt2, or give your class in Python: explorer.open_app(explorer.Subject(module, task))."))
    elif task is None:
        st.caption(_("Without data, what needs a forward pass is left out."))
    subject = found if task is None else Subject(found.module, task, found.name, card=found.card)
    fine = task is None or _looks(subject)
    if st.button(_("Open it"), type="primary", key="open-go", disabled=not fine, on_click=_open, args=(subject, received.digest)):
        st.rerun()  # which closes the dialog


def refused(error: ExplorerError) -> None:
    """Why a file was not opened, and the lines that convert it."""
    lines = getattr(error, "lines", "")
    st.error(translated(error).replace(lines, "").rstrip(" :\n") + "." if lines else translated(error), icon=":material/error:")
    if lines:
        st.code(lines, language="python")


def _open(subject: Subject, digest: str) -> None:
    subject.card["digest"] = digest
    name = models.keep(subject)
    uploads.trim(st.session_state[models.OWN], name)
    st.session_state["model"] = name


def _summary(subject: Subject, received: uploads.Received) -> None:
    parameters = sum(p.numel() for p in subject.module.parameters())
    text = _("{n} parameters in {layers} layers", n=fmt.count(parameters), layers=len(subject.layers))
    st.markdown(f"**{received.name}** · {subject.card['format']} · {fmt.size(subject.card['bytes'])} · {text}")
    st.caption(f"SHA-256 {received.digest[:16]}…")
    for note in subject.card["notes"]:
        st.caption(translated(note))


def _task(found: Subject) -> Task | None:
    choice = st.selectbox(
        _("Data"), [FILE, *explorer.samples(), NONE], key="open-what",
        format_func=lambda v: {NONE: _("none"), FILE: _("a file")}.get(v) or _("that of {sample}", sample=v),
    )  # fmt: skip
    if choice == NONE:
        return None
    if choice != FILE:
        return explorer.load(choice).task
    sent = st.file_uploader(_("Data: .npz, .csv, .parquet, a zip of pictures in class folders, lines of text"), key="open-data")
    if sent is None:
        return None
    received = uploads.data(sent)
    if received.error is not None:
        refused(received.error)
        return None
    source: uploads.Source = received.value
    for note in source.notes:
        st.caption(translated(note))
    try:
        return task_of(source, _mapping(source, received.digest))
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return None


def _mapping(source: uploads.Source, digest: str) -> Mapping:
    """The form: what the columns are to the model."""
    guess, names, k = propose(source), list(source.columns), digest[:8]
    kinds = {"classification": _("classes"), "regression": _("numbers"), "agreement": _("no labels: agreement with the original")}
    a, b, c = st.columns(3)
    inputs = a.multiselect(_("Inputs"), names, default=list(guess.inputs)[:200], key=f"map-in-{k}")
    kind = b.selectbox(_("Target is"), KINDS, KINDS.index(guess.kind), format_func=kinds.__getitem__, key=f"map-kind-{k}")
    target = c.selectbox(_("Target"), names, names.index(guess.target) if guess.target else 0, disabled=kind == "agreement", key=f"map-target-{k}")
    a, b, c, d, e = st.columns(5)
    shape = a.text_input(_("Shape of a sample"), " × ".join(map(str, guess.shape)), placeholder="1 × 28 × 28", key=f"map-shape-{k}")
    dtype = b.selectbox(_("Type"), list(TYPES), list(TYPES).index(guess.dtype), key=f"map-type-{k}")
    scale = c.text_input(_("Times"), "1/255" if guess.scale != 1 else "1", key=f"map-scale-{k}", help=_("x → (x · times − mean) / std"))
    mean = d.text_input(_("Mean"), "0", key=f"map-mean-{k}", help=_("one number, or one a channel"))
    std = e.text_input(_("Std"), "1", key=f"map-std-{k}", help=_("one number, or one a channel"))
    a, b, c = st.columns(3)
    validation = a.number_input(_("Validation share"), 0.01, 0.99, 0.2, key=f"map-val-{k}")
    test = b.number_input(_("Test share"), 0.0, 0.9, 0.2, key=f"map-test-{k}")
    seed = c.number_input(_("Seed of the split"), 0, 2**31 - 1, 0, key=f"map-seed-{k}")
    from dataclasses import replace

    return replace(
        guess, inputs=tuple(inputs), target=None if kind == "agreement" else target, kind=kind, shape=numbers(shape, whole=True), dtype=dtype,
        scale=numbers(scale)[0], mean=numbers(mean), std=numbers(std), validation=validation, test=test, seed=int(seed),
    )  # fmt: skip


def numbers(text: str, whole: bool = False) -> tuple:
    """Numbers of a field: "0.5, 0.25", "1/255", "3 × 32 × 32". Raises :class:`TaskError`."""
    from explorer.core.errors import TaskError
    from explorer.core.message import say

    out = []
    for part in text.replace("×", " ").replace("x", " ").replace(",", " ").replace("，", " ").replace("(", " ").replace(")", " ").split():
        top, slash, bottom = part.partition("/")
        try:
            value = float(top) / float(bottom) if slash else float(top)
        except (ValueError, ZeroDivisionError):
            raise TaskError(say("{text!r} is no number; accepted: numbers, with commas between them", text=part[:40])) from None
        if whole and (value != int(value) or not 0 < value < 1e6):
            raise TaskError(say("{text!r}; accepted: whole numbers above 0", text=part[:40]))
        out.append(int(value) if whole else value)
    if not whole and not out:
        raise TaskError(say("an empty field; accepted: a number"))
    return tuple(out)


def _looks(subject: Subject) -> bool:
    """Ten examples as the model sees them, and the check; whether the model can take the data."""
    try:
        n = min(EXAMPLES, len(subject.task.dataset("validation")))
        shown = [show(subject, "validation", i) for i in range(n)]
        classes = subject.task.kind == "classification"
        pieces = [tile(s, [("", label(subject, s.target) if classes else "")], "", subject.task.labels) for s in shown]
        shape = " × ".join(map(str, getattr(subject.task.dataset("validation")[0][0], "shape", ())))
        st.caption(_("The first {n} of the validation split as the model sees them, each {shape}", n=n, shape=shape))
        st.html(f'<div class="x-tiles">{"".join(pieces)}</div>')
        found = check(subject, st.session_state.get("device"))
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return False
    figure = found.figure
    st.markdown(
        _("The original: **{metric} {value}**, measured on {n} samples of {split}", metric=metric_name(found.metric), value=fmt.metric(found.metric, figure.value), n=figure.n, split=figure.split or "")
    )
    if found.balance:
        st.caption(_("Samples by class") + ": " + ", ".join(f"{name} {count}" for name, count in list(found.balance.items())[:30]))
    for hint in found.hints:
        st.warning(translated(hint), icon=":material/help:")
    return True
