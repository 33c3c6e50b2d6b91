"""A file of one's own: sent, or, on one's own machine, named by its path; what it became, or why it was refused."""

from __future__ import annotations

import time

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.files.limits import shared

from .. import bars, uploads
from ..i18n import _, translated


def choose(key: str) -> uploads.Received | None:
    """The model of the uploader or of the path field called ``key``; None while there is none."""
    limit = f"{uploads.limit()} MB"  # as the field beside it says
    here = not shared() and st.context.ip_address is None  # to somebody at another machine a path here is nothing
    if shared():
        st.caption(_("Up to {size} a file, and {quota} for all that a session has open; the oldest goes first.", size=limit, quota=f"{uploads.QUOTA >> 20} MB"))
    elif here:
        st.caption(_("Up to {size} by upload. A larger file, or a folder with shards, by its path: it is mapped, and not copied.", size=limit))
    sent = st.file_uploader(_("Model file"), key=f"{key}-model")
    path = st.text_input(_("or its path on this machine"), key=f"{key}-path", placeholder="/models/model.safetensors") if here else ""
    if sent is not None:
        return uploads.model(sent, key)
    if not path.strip():
        return None
    place, began = st.empty(), time.perf_counter()

    def progress(done: int, total: int) -> None:
        place.progress(min(1.0, done / max(1, total)), bars.said(_("Counting the weights …"), time.perf_counter() - began, done, total))

    received = uploads.at_path(path, key, progress)
    place.empty()
    return received


def missing() -> str:
    """What weights alone lack, and how to add it."""
    if shared():
        return _("Weights only: histograms, thresholds, sizes, quantization errors and comparisons work. To evaluate, open an export, a Hugging Face model or an .onnx, or give your class in Python on your own machine.")
    return _("Weights only: histograms, thresholds, sizes, quantization errors and comparisons work. To evaluate, open an export or a .pt2, or give your class in Python: explorer.open_app(explorer.Subject(module, task)).")


def refused(error: ExplorerError) -> None:
    """Why a file was not opened, and the lines that convert it."""
    lines = getattr(error, "lines", "")
    st.error(translated(error).removesuffix(lines).rstrip(), icon=":material/error:")
    if lines:
        st.code(lines, language="python")
