"""The network overview, as a Streamlit component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from . import source

_component = st.components.v2.component("explorer_overview", js=source("overview.js"), css=source("overview.css"))


def overview(data: Mapping[str, Any], key: str, on_select: Callable[[], None], on_lock: Callable[[], None]) -> None:
    """Draw ``data``: {layers: [{name, label, block, kind, shape, numel, sparsity, bits, full, attenuated, locked, coupled}],
    selected, text}; full: bits of the original's values. While a callback runs, ``st.session_state[key]["select"]`` or ``["lock"]`` names the layer."""
    _component(key=key, data=dict(data), on_select_change=on_select, on_lock_change=on_lock)
