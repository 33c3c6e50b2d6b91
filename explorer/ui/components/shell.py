"""What the page around ours is told, as a Streamlit component that nobody sees: its language, and to keep the keyboard's focus."""

from __future__ import annotations

import streamlit as st

from . import source

_component = st.components.v2.component("explorer_shell", js=source("focus.js") + source("shell.js"))


def shell(language: str, skip: str) -> None:
    """language: as HTML names it; skip: the text of the link past the toolkit's own buttons."""
    _component(key="shell", data={"language": language, "skip": skip})
