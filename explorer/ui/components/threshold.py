"""The draggable threshold, as a Streamlit component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from . import source

_component = st.components.v2.component("explorer_threshold", js=source("threshold.js"), css=source("threshold.css"))


def threshold(data: Mapping[str, Any], key: str) -> None:
    """Draw ``data``; events arrive in ``st.session_state[key]["value"]``: {t, k, factor, seq, final, id},
    with ``rest`` where it is the last one again.

    data: id, layer, ack (the last seq answered), value {t, k, factor}, view "weights" | "scores" | "units", mode
    "hard" | "scale" | "shrink", lo, hi, counts, q (quantiles of the score) or scores and units; levels; locked (a
    reason or None); readout (exact figures); more (whether a hand that rests shall ask again); layers (for the overview); size; text.
    """
    _component(key=key, data=dict(data), default={"value": None}, on_value_change=lambda: None)
