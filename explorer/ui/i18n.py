"""English and 简体中文: gettext catalogues, one language a session."""

from __future__ import annotations

import gettext
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.core.errors import ExplorerError
from explorer.core.message import Message

DOMAIN = "explorer"
FOLDER = Path(__file__).parent / "locale"
LANGUAGES = ("en", "zh_CN")


@cache
def _catalogue(code: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, FOLDER, [code], fallback=True) if code != "en" else gettext.NullTranslations()


_here = threading.local()  # .known: (what tells runs apart, the language); a page asks hundreds of times


def language() -> str:
    """The session's language: chosen, else the browser's, else English."""
    run = get_script_run_ctx(suppress_warning=True)
    if run is None:
        return _chosen()
    known = getattr(_here, "known", None)
    if known is None or known[0] is not run.cursors:  # each run has cursors of its own
        _here.known = known = (run.cursors, _chosen())
    return str(known[1])


def _chosen() -> str:
    try:
        if "language" not in st.session_state:
            st.session_state["language"] = "zh_CN" if (st.context.locale or "").lower().startswith("zh") else "en"
        return str(st.session_state["language"])
    except Exception:  # outside of a Streamlit run there is no session
        return "en"


def set_language(code: str) -> None:
    """Choose the session's language."""
    if code in LANGUAGES:
        st.session_state["language"] = code
        _here.known = None


def _(text: str, /, **values: object) -> str:
    """``text`` in the session's language, its ``{placeholders}`` filled."""
    translated = _catalogue(language()).gettext(text)
    return translated.format(**values) if values else translated


def translated(said: object) -> str:
    """An error of this package, or a message, in the session's language; any other text as it is."""
    text = said.message if isinstance(said, ExplorerError) else said
    if not isinstance(text, Message) or not text.template:
        return str(text)
    values = {name: translated(v) if isinstance(v, Message) else v for name, v in text.values.items()}
    return _(text.template, **values)


def help_for(kind: str, name: str, fallback: str) -> str:
    """Help of a term, criterion, quantizer, exporter or card: the catalogue's under that name, else English."""
    from .terms import TERMS

    english = TERMS.get(name, fallback) if kind == "term" else fallback
    found = _catalogue(language()).pgettext(kind, name)
    return english if found == name else found


def label_for(labels: Mapping[str, str], name: str) -> str:
    """The label of a setting by its Python name, in the session's language; the name in words where it has none."""
    return _catalogue(language()).gettext(labels[name]) if name in labels else name.replace("_", " ")
