"""A mapping saved to a file, and one that was saved before in the place of a guess."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import streamlit as st

from explorer.core.errors import LoadError
from explorer.files.data import Source
from explorer.files.mapping import Mapping
from explorer.files.mapping_json import fitted, from_json, to_json
from explorer.files.parts import Wanted

from ..i18n import _, translated


def _key(digest: str) -> str:
    return f"map-saved-{digest[:8]}"


def mark(digest: str) -> str:
    """Differs with the file that was given: fields begin anew with its values."""
    sent = st.session_state.get(_key(digest))
    return "" if sent is None else "-" + hashlib.sha256(sent.getvalue()).hexdigest()[:8]


def chosen(source: Source, digest: str, inputs: Sequence[Wanted]) -> Mapping | None:
    """The saved mapping that was given for this data, as far as it fits; None where there is none."""
    sent = st.session_state.get(_key(digest))
    if sent is None:
        return None
    try:
        return fitted(from_json(sent.getvalue(), sent.name), source.columns, tuple(one.name for one in inputs))
    except LoadError as error:
        st.error(translated(error), icon=":material/error:")
        return None


def keep(mapping: Mapping, digest: str) -> None:
    """Where the mapping of the form is saved, and another one opened."""
    with st.expander(_("Save this mapping, or open a saved one")):
        st.download_button(_("Save"), to_json(mapping), "mapping.json", "application/json", icon=":material/download:", key=f"map-keep-{digest[:8]}")
        st.file_uploader(_("A saved mapping"), type=["json"], key=_key(digest))
