"""Open a model file, and data to judge it on."""

from __future__ import annotations

import streamlit as st

import explorer
from explorer.core.errors import ExplorerError
from explorer.files.limits import shared
from explorer.files.mapping import task_of
from explorer.files.noise import WARNING
from explorer.files.parts import wanted
from explorer.models.subject import Subject
from explorer.models.task import Task

from .. import counted, links, models, uploads
from .. import format as fmt
from ..i18n import _, translated
from . import data_form, noise_form, own_file

NONE, FILE, NOISE = "none", "file", "noise"


def button() -> None:
    """What opens the dialog."""
    if st.button(_("Open…"), icon=":material/folder_open:", key="open-file", help=_("Open a model of your own")):
        st.dialog(_("Open a model of your own"), width="large")(_dialog)()


def _dialog() -> None:
    if shared():
        st.caption(_("An export of this app (zip or .safetensors), a Hugging Face model (zip), .safetensors, .onnx (with external data: a zip of all of its files), or a state dict saved by torch.save. No code in a file is executed."))
    else:
        st.caption(_("An export of this app (zip or .safetensors), a Hugging Face model (zip), .safetensors, .pt2, .onnx (with external data: a zip of all of its files), or a state dict saved by torch.save. No code in a file is executed."))
    if shared():
        st.caption(_("This server is shared: what you send is seen by this session alone and gone with it."))
    received = own_file.choose("open")
    if received is None:
        return
    if received.error is not None:
        own_file.refused(received.error)
        return
    found: Subject = received.value
    _summary(found, received)
    task = _task(found) if found.card["forward"] else None
    if not found.card["forward"]:
        st.info(own_file.missing())
    elif task is None:
        st.caption(_("Without data, what needs a forward pass is left out."))
    subject = found if task is None else Subject(found.module, task, found.name, card=found.card)
    noise = task is not None and st.session_state.get("open-what") == NOISE
    if noise:
        subject.card["notes"] = (*subject.card["notes"], WARNING)
        subject.card["noise"] = True
    fine = task is None or data_form.looks(subject)
    if st.button(_("Open it"), type="primary", key="open-go", disabled=not fine, on_click=_open, args=(subject, received.digest)):
        st.rerun()  # which closes the dialog


def _open(subject: Subject, digest: str) -> None:
    subject.card["digest"] = digest
    name = models.keep(subject)
    uploads.trim(st.session_state[models.OWN], name)
    st.session_state["model"] = links.opened(name)


def _summary(subject: Subject, received: uploads.Received) -> None:
    parameters = sum(p.numel() for p in subject.module.parameters())
    text = counted.size(parameters, len(subject.layers))
    st.markdown(f"**{received.name}** · {subject.card['format']} · {fmt.size(subject.card['bytes'])} · {text}")
    if received.digest:
        st.caption(f"SHA-256 {received.digest[:16]}…")
    for note in subject.card["notes"]:
        st.caption(translated(note))


def _task(found: Subject) -> Task | None:
    choice = st.selectbox(
        _("Data"), [FILE, *explorer.samples(), NOISE, NONE], key="open-what",
        format_func=lambda v: {NONE: _("none"), FILE: _("a file"), NOISE: _("noise")}.get(v) or _("that of {sample}", sample=v),
    )  # fmt: skip
    if choice == NONE:
        return None
    if choice == NOISE:
        return noise_form.task(found)
    if choice != FILE:
        return explorer.load(choice).task
    sent = st.file_uploader(_("Data: .npz, .csv, .parquet, a zip of pictures in class folders, lines of text"), key="open-data")
    if sent is None:
        return None
    received = uploads.data(sent)
    if received.error is not None:
        own_file.refused(received.error)
        return None
    source: uploads.Source = received.value
    reader = found.card.get("reader")
    for note in source.notes:
        st.caption(translated(note))
    try:
        return task_of(source, data_form.mapping(source, received.digest, reader, wanted(found.module)), reader)
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return None
