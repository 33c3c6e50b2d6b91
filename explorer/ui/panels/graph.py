"""The graph in Netron, original and compressed side by side, drawn on demand and never during a drag."""

from __future__ import annotations

import json
from urllib.parse import quote

import streamlit as st

import explorer
from explorer.compress.plan import Plan
from explorer.export.annotated import annotated
from explorer.models.subject import Subject

from .. import model_store, style
from ..i18n import _
from ..state import Workspace

HEIGHT = 620


def url(subject: Subject, plan: Plan, name: str) -> str:
    """The address of Netron showing a plan's graph; the same plan keeps its address within a session."""
    key = f"{subject.name}/{plan.digest}"
    tokens = st.session_state.setdefault("graph-tokens", {})
    if key not in tokens or any(model_store.get(token) is None for token in tokens[key]):
        graph = annotated(subject, plan)
        tokens[key] = (model_store.put(graph.onnx, name), model_store.put(json.dumps(graph.marks).encode(), "marks.json"))
    model, marks = tokens[key]
    theme = "dark" if style.is_dark() else "light"
    return f"/netron/?url=/models/{model}/{quote(name)}&identifier={quote(name)}&marks=/models/{marks}/marks.json&theme={theme}"


def render(space: Workspace, subject: Subject) -> None:
    """Two frames; colours run from kept blue to cut orange by sparsity, quantized layers have a violet rim."""
    plan = explorer.resolve(subject, space.history.present)
    st.caption(_("Layers are coloured by sparsity, from blue (kept) to orange (cut); a violet rim marks quantized ones. Click a node for its figures."))
    with st.spinner(_("Exporting the graph …")):
        pairs = [(_("Original"), url(subject, explorer.resolve(subject, explorer.Recipe()), f"{subject.name}.onnx"))]
        pairs.append((_("Compressed"), url(subject, plan, f"{subject.name}-compressed.onnx")))
    for column, (name, address) in zip(st.columns(2), pairs, strict=True):
        with column:
            st.markdown(f"**{name}**")
            st.iframe(address, height=HEIGHT)
