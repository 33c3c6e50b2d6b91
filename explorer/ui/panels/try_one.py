"""Pick, type or upload an input and see both models' answers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image, UnidentifiedImageError

from explorer.core.errors import ExplorerError, TaskError
from explorer.core.message import say
from explorer.core.report import Report
from explorer.evaluate.answers import Answers, Shown, accepted, answers, from_array, from_text, label, picture, typed
from explorer.models.subject import Subject

from .. import format as fmt
from ..i18n import _, translated
from ..state import Workspace
from . import tiles

MAX_UPLOAD = 2_000_000  # bytes


def render(space: Workspace, subject: Subject, report: Report) -> None:
    """Input on the left, the two answers beside it."""
    left, right = st.columns([2, 3], gap="large")
    data = subject.task.dataset("validation")
    target = None
    with left:
        ways = ["sample", "own"]
        way = st.segmented_control(
            _("Input"), ways, default="sample", required=True, key="try-way", label_visibility="collapsed",
            format_func=lambda w: {"sample": _("a sample"), "own": _("your own")}[w],
        )  # fmt: skip
        try:
            if way == "sample":
                first = report.changed[0].index if report.changed else 0
                index = st.number_input(_("Sample of the validation split"), 0, len(data) - 1, first, key=f"try-index-{space.model}")
                inputs, target = data[int(index)]
            else:
                inputs = _own(subject)
        except ExplorerError as error:
            st.error(translated(error), icon=":material/error:")
            return
        if inputs is None:
            return
        st.html(f'<div class="x-tile" style="width:140px">{tiles.picture(Shown(subject.task.display or "", picture(subject, inputs), None), subject.task.labels)}</div>')
    with right:
        found = answers(subject, space.history.present, inputs, device=st.session_state.get("device"))
        if target is not None and report.task != "language_model":
            value = target.item() if hasattr(target, "item") else target
            st.caption(_("target: {t}", t=label(subject, value)))
        _show(found, report.task)


def _own(subject: Subject) -> Any:
    if typed(subject):
        text = st.text_input(_("Type something"), key="try-text", max_chars=400)
        return from_text(subject, text) if text else None
    shape = accepted(subject)
    image = subject.task.display == "image"
    size = tuple(subject.task.dataset("validation")[0][0].shape)
    grey = len(size) < 3 or size[0] == 1
    kinds = ["png", "jpg", "jpeg"] if image else ["csv", "txt"]
    if not image:
        hint = _("A CSV of numbers without a header: {shape}", shape=shape)
    elif grey:
        hint = _("An image; it is made grey and fitted. Light on dark, as the data is.")
    else:
        hint = _("An image; it is fitted to the size of the data's.")
    file = st.file_uploader(_("Upload an input"), type=kinds, key="try-file", help=hint)
    if file is None:
        return None
    if file.size > MAX_UPLOAD:
        raise TaskError(say("The file is larger than {size}.", size=fmt.size(MAX_UPLOAD)))
    if image:
        invert = st.checkbox(_("dark on light: invert"), key="try-invert")
        try:
            drawn = Image.open(io.BytesIO(file.getvalue())).convert("L" if grey else "RGB").resize(size[:-3:-1])
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
            raise TaskError(say("The file could not be read as an image; accepted: PNG or JPEG.")) from None
        array = np.asarray(drawn, dtype="float32") / 255
        array = 1 - array if invert else array
        return from_array(subject, array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0))
    return from_array(subject, numbers(file.getvalue(), shape))


def numbers(data: bytes, shape: str) -> np.ndarray:
    """A CSV of numbers without a header as float32. shape: what the model takes, for the message of a TaskError."""
    try:
        return pd.read_csv(io.BytesIO(data), header=None).to_numpy(dtype="float32")
    except (ValueError, pd.errors.ParserError) as error:
        raise TaskError(
            say(
                "The file could not be read as numbers; accepted: a CSV of numbers without a header: {shape} ({why})",
                why=str(error).strip()[:120], shape=shape,
            )
        ) from None  # fmt: skip


def _show(found: Answers, task: str) -> None:
    before, after = st.columns(2)
    for column, name, answer in ((before, _("original"), found.before), (after, _("compressed"), found.after)):
        with column:
            st.markdown(f"**{name}**")
            if task in ("classification", "language_model"):
                rows = "".join(
                    f'<div style="display:flex;gap:.5rem;align-items:center;font-size:.82rem"><span style="flex:0 0 6.5rem;overflow:hidden;text-overflow:ellipsis;white-space:nowrap">'
                    f'{_visible(text)}</span><span class="x-bar"><i style="width:{100 * p:.0f}%"></i></span><span>{100 * p:.1f} %</span></div>'
                    for text, p in answer
                )
                st.html(rows)
            else:
                st.html(" ".join(f'<b style="font-size:1.3rem">{fmt.significant(value, 4)}</b>' for _text, value in answer))


def _visible(token: str) -> str:
    from html import escape

    return escape({" ": "␣", "\n": "⏎"}.get(token, token))
