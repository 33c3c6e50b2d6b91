"""The selected tensor as a heat map, before and after."""

from __future__ import annotations

import numpy as np
import streamlit as st

import explorer
from explorer.compress.view import GATES, smaller_matrix, weight_matrix
from explorer.figures import weights as figure
from explorer.models.subject import Subject

from .. import style
from ..i18n import _
from ..state import Workspace


def render(space: Workspace, subject: Subject) -> None:
    """Rows are the layer's outputs (of recurrent layers the gates, one block below the other), columns its inputs."""
    plan = explorer.resolve(subject, space.history.present)
    layer, palette = subject.layer(space.layer), style.colours()
    gates = GATES.get(layer.kind, ()) if layer.name.rpartition(".")[2].startswith("weight_") else ()
    before, cut, step = weight_matrix(subject, explorer.resolve(subject, explorer.Recipe()), space.layer)
    if space.layer in plan.masks:
        cut = weight_matrix(subject, plan, space.layer)[1]
    after, zero, step_after = smaller_matrix(subject, plan, space.layer)
    note = _("Blue: kept, by magnitude. Orange: cut.")
    if max(step, step_after) > 1:
        note += " " + _("Drawn: one row and column in {step}.", step=max(step, step_after))
    st.caption(f"**{space.layer}** · {note}")
    reach = float(np.abs(before).max()) or 1.0
    pictures = ((_("Before"), before, cut, step, "before"), (_("After"), after, zero, step_after, "after"))
    for column, (name, values, mask, every, key) in zip(st.columns(2), pictures, strict=True):
        with column:
            st.markdown(f"**{name}** · {' × '.join(map(str, layer.shape if key == 'before' else _shape(subject, plan, layer.name)))}")
            drawn = figure.weights(values, mask, palette, _("gates") if gates else _("outputs"), _("inputs"), gates, reach, every)
            st.plotly_chart(drawn, key=f"weights-{key}", config={"displayModeBar": False})


def _shape(subject: Subject, plan: explorer.Plan, name: str) -> tuple[int, ...]:
    from explorer.evaluate.costs import counts

    return counts(subject, plan).layers[name].shape
