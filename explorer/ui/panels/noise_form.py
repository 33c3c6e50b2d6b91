"""No data at all: noise to run the model on, and the warning that goes with it."""

from __future__ import annotations

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.files.noise import WARNING, noise_task
from explorer.models.task import Task

from ..i18n import _, translated
from .data_form import numbers


def task() -> Task | None:
    """What the form describes; None while it is not filled in."""
    st.warning(translated(WARNING) + ".", icon=":material/warning:")
    a, b, c = st.columns(3)
    shape = a.text_input(_("Shape of a sample"), placeholder="3 × 32 × 32", key="noise-shape")
    kind = b.selectbox(_("Values"), ["normal", "tokens"], format_func={"normal": _("normal noise"), "tokens": _("random tokens")}.__getitem__, key="noise-kind")
    size = c.number_input(_("Vocabulary"), 2, 1_000_000, 100, disabled=kind != "tokens", key="noise-vocabulary")
    if not shape.strip():
        st.caption(_("The shape of one input, without the batch."))
        return None
    try:
        return noise_task(numbers(shape, whole=True), vocabulary=int(size) if kind == "tokens" else None)
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return None
