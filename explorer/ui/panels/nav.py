"""The way to another page, as one of the head's buttons."""

from __future__ import annotations

import streamlit as st

from .. import links
from ..i18n import _
from ..state import Workspace


def link(path: str, space: Workspace) -> None:
    """To a page by its path; the session's model and recipe go along."""
    labels = {"explore": (_("Explore"), ":material/tune:"), "recover": (_("Recover"), ":material/healing:")}
    label, icon = labels[path]
    if st.button(label, icon=icon, key=f"go-{path}"):
        links.turn(path, space)
