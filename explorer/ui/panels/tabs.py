"""The tabs below the histogram; only the open one is drawn."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.models.subject import Subject

from ..i18n import _, translated
from ..state import Workspace
from . import changed, criteria, export, graph, joint, sensitivity, speed, table, weights


def render(space: Workspace, subject: Subject) -> None:
    """Changed, Graph, Layers, Weights, Criteria, Sensitivity, the map, size and speed, Export."""
    names = [
        _("Changed"),
        _("Graph"),
        _("Layers"),
        _("Weights"),
        _("Criteria"),
        _("Sensitivity"),
        _("Sparsity × bits"),
        _("Why this size and speed"),
        _("Export"),
    ]
    parts: tuple[Any, ...] = (
        changed.render,
        graph.render,
        table.render,
        weights.render,
        criteria.render,
        sensitivity.render,
        joint.render,
        speed.render,
        export.render,
    )
    if subject.task.kind == "weights":  # nothing that runs the model
        names, parts = [_("Layers"), _("Weights"), _("Export")], (table.render, weights.render, export.weights)
        if subject.card.get("graph"):  # of a file whose graph is drawn as it is
            names, parts = [*names[:2], _("Graph"), names[2]], (*parts[:2], graph.render, parts[2])
    for tab, part in zip(st.tabs(names, key="tabs", on_change="rerun"), parts, strict=True):
        if tab.open:
            with tab:
                try:
                    part(space, subject)
                except ExplorerError as error:
                    st.error(translated(error), icon=":material/error:")
