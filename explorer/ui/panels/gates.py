"""Which gates of an LSTM or GRU matter: by the chosen criterion, and step by step."""

from __future__ import annotations

import streamlit as st

from explorer.analysis.criteria import registry
from explorer.analysis.gates import gate_importance, why_not_over_time
from explorer.core.layers import Layer
from explorer.figures import gates as figures
from explorer.models.gates import gate_names
from explorer.models.subject import Subject

from .. import edits, style
from ..i18n import _, translated
from . import controls, ready
from .handle import gate_name

SAMPLES = 256  # of the train split, that the steps are seen on
PLAIN = {"displayModeBar": False}


def render(subject: Subject, layer: Layer, current: str) -> None:
    """For a tensor with gates, beside its twin: what reads the input and what reads the state."""
    if not edits.has_gates(layer):
        return
    tag = layer.name.rpartition("weight_")[2][2:]  # of weight_ih_l0 and weight_hh_l0: _l0
    twins = [f"{layer.module}.weight_{kind}{tag}".lstrip(".") for kind in ("ih", "hh")]
    fits = all(registry[current]().is_compatible(subject, name) is None for name in twins)
    criterion = current if fits else "l1"
    ready.scored(subject, criterion, "weight", twins)
    table = gate_importance(subject, criterion, layers=twins)
    names = {gate: gate_name(gate) for gate in gate_names(subject, layer.name)}
    st.markdown("**" + _("Which gates of {layer} matter?", layer=layer.module or layer.name) + "**")
    st.plotly_chart(figures.shares(table, style.colours(), names, _("weight")), key="gates-shares", config=PLAIN)
    st.caption(
        _(
            "Each gate's share of its tensor's summed score, by {criterion}. To cut whole gates, choose Prune: gates beside the histogram; a gate that is cut keeps its bias.",
            criterion=controls.criterion_title(criterion),
        )
    )
    if not st.toggle(_("Step by step"), key=f"gates-steps-{subject.name}"):
        return
    why = why_not_over_time(subject, [twins[1]])
    if why is not None:
        st.info(translated(why), icon=":material/info:")
        return
    bar = ready.Bar(_("gradients through time …"))
    try:
        steps = gate_importance(
            subject,
            layers=[twins[1]],
            over_time=True,
            samples=SAMPLES,
            progress=bar,
            device=st.session_state.get("device"),
        )
    finally:
        bar.end()
    st.plotly_chart(figures.over_time(steps, style.colours(), names, _("time step")), key="gates-time", config=PLAIN)
    n = min(SAMPLES, len(subject.task.dataset("train")))
    st.caption(
        _(
            "How much the loss would change, to first order, if a gate did not see the state at that step: mean |z·∂L/∂z| of {n} training samples, gradients through time. Counted in the direction in which the layer reads.",
            n=f"{n:,}",
        )
    )
