"""The map of sparsity and bits, as a Streamlit component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from . import source

_component = st.components.v2.component("explorer_map", js=source("map.js"), css=source("map.css"))


def cell_map(data: Mapping[str, Any], key: str, on_pick: Callable[[], None]) -> None:
    """Draw ``data``: {id, rows, columns: names; cells: [{row, column, value, size, title, shade, best, complete}], chosen: [row,
    column] or None, text: {label, corner, frontier}}; cells that are missing stay empty, the others are updated in place. While the
    callback runs, ``st.session_state[key]["pick"]`` is [row, column]."""
    _component(key=key, data=dict(data), on_pick_change=on_pick)
