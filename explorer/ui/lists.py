"""Lists to choose from whose words are in the session's language, and what was chosen in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from .i18n import language


def one_of(label: str, options: Sequence[Any], first: Any, key: str, show: Callable[[Any], str] = str, **how: Any) -> Any:
    """A select box; what was chosen, or ``first`` until then."""
    chosen = _chosen(key, first)
    index = list(options).index(chosen if chosen in options else first)
    picked = st.selectbox(label, options, index=index, format_func=show, key=_key(key), **how)
    _keep(key, picked)
    return picked


def some_of(label: str, options: Sequence[Any], first: Sequence[Any], key: str, show: Callable[[Any], str] = str, **how: Any) -> list[Any]:
    """A list of which several can be chosen; what was chosen, or ``first`` until then, as far as it is among the options."""
    chosen = [one for one in _chosen(key, first) if one in options]
    picked = st.multiselect(label, options, chosen, format_func=show, key=_key(key), **how)
    _keep(key, picked)
    return picked


def _key(key: str) -> str:
    """Another widget in another language: one goes on showing the words that it was made with, and the browser sends a choice as
    its word."""
    return f"{key}-{language()}"


def _chosen(key: str, first: Any) -> Any:
    return st.session_state.get("chosen-in-lists", {}).get(key, first)


def _keep(key: str, picked: Any) -> None:
    st.session_state.setdefault("chosen-in-lists", {})[key] = picked
