"""The tabs below the histogram; only the open one is drawn."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.models.subject import Subject

from ..i18n import _, translated
from ..state import Workspace
from . import changed, criteria, export, graph, joint, other_file, rounding, sensitivity, speed, table, weights


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
        shown = {
            _("Layers"): table.render, _("Weights"): weights.render, _("Graph"): graph.render, _("Quantization error"): rounding.render,
            _("Compare with a file"): other_file.render, _("Export"): export.weights,
        }  # fmt: skip
        if not subject.card.get("graph"):  # only of a file whose graph is drawn as it is
            del shown[_("Graph")]
        names, parts = list(shown), tuple(shown.values())
    for tab, part in zip(st.tabs(names, key="tabs", on_change="rerun"), parts, strict=True):
        if tab.open:
            with tab:
                try:
                    part(space, subject)
                except ExplorerError as error:
                    st.error(translated(error), icon=":material/error:")
