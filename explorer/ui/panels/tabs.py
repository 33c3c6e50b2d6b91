"""The tabs below the histogram; only the open one is drawn."""

from __future__ import annotations

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.models.subject import Subject

from ..i18n import _, translated
from ..state import Workspace
from . import changed, criteria, export, graph, joint, sensitivity, speed, table, weights


def render(space: Workspace, subject: Subject) -> None:
    """Changed, Sensitivity, Graph, Layers, Weights, Criteria, the map, size and speed, Export."""
    names = [_("Changed"), _("Sensitivity"), _("Graph"), _("Layers"), _("Weights"), _("Criteria"), _("Sparsity × bits"), _("Why this size and speed"), _("Export")]
    parts = (changed.render, sensitivity.render, graph.render, table.render, weights.render, criteria.render, joint.render, speed.render, export.render)
    for tab, part in zip(st.tabs(names, key="tabs", on_change="rerun"), parts, strict=True):
        if tab.open:
            with tab:
                try:
                    part(space, subject)
                except ExplorerError as error:
                    st.error(translated(error), icon=":material/error:")
