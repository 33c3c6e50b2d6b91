"""The selected tensor as a heat map with its mask."""

from __future__ import annotations

import streamlit as st

import explorer
from explorer.compress.view import weight_matrix
from explorer.figures import weights as figure
from explorer.models.subject import Subject

from .. import style
from ..i18n import _
from ..state import Workspace


def render(space: Workspace, subject: Subject) -> None:
    """Rows are the layer's outputs (for recurrent layers its gates, one below the other), columns its inputs."""
    plan = explorer.resolve(subject, space.history.present)
    values, cut, step = weight_matrix(subject, plan, space.layer)
    palette = style.colours()
    note = _("Blue: kept, by magnitude. Orange: cut.")
    if step > 1:
        note += " " + _("Drawn: one row and column in {step}.", step=step)
    st.caption(f"**{space.layer}** · {note}")
    st.plotly_chart(figure.weights(values, cut, palette, _("outputs"), _("inputs")), key="weights-figure", config={"displayModeBar": False})
