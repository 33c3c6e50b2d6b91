"""The controls for quantization: bits, levels and, where there is a choice, the quantizer."""

from __future__ import annotations

import streamlit as st

import explorer
from explorer.compress.quantizers import registry

from .. import edits
from ..i18n import _, help_for
from .controls import Scene, row

FULL = "fp32"
BITS = (FULL, 8, 6, 5, 4, 3, 2)


def render(scene: Scene) -> None:
    """Draw the controls; a change is one undo step."""
    recipe, layer = scene.space.history.present, scene.layer
    rule = edits.quantize_rule(recipe, scene.subject.layers, layer.name)
    bits = rule.bits if rule else FULL
    how = f"{rule.granularity}, {rule.scheme}" if rule else "channel, symmetric"
    quantizer = rule.quantizer if rule else "minmax"
    keys = {name: f"{name}-{scene.key}" for name in ("bits", "how", "quantizer")}
    names = {
        "channel, symmetric": _("per channel, symmetric"), "channel, affine": _("per channel, affine"),
        "tensor, symmetric": _("per tensor, symmetric"), "tensor, affine": _("per tensor, affine"),
    }  # fmt: skip

    def changed() -> None:
        picked = st.session_state.get(keys["bits"], bits)
        granularity, scheme = st.session_state.get(keys["how"], how).split(", ")
        everywhere = rule.targets == (edits.ALL,) if rule else scene.settings.scope == "global"
        chosen = st.session_state.get(keys["quantizer"], quantizer)
        scene.push(edits.quantize(recipe, layer, "global" if everywhere else "layer", None if picked == FULL else picked, scheme, granularity, chosen))

    options = list(BITS) if bits in BITS else [FULL, bits, *BITS[1:]]
    row(_("Bits"), help_for("term", "fake quantization", ""), lambda: st.segmented_control(
        _("Bits"), options, default=bits, format_func=str, key=keys["bits"], label_visibility="collapsed", required=True, on_change=changed,
    ))  # fmt: skip
    row(_("Levels"), help_for("quantizer", quantizer, registry.help(quantizer)), lambda: st.selectbox(
        _("Levels"), list(names), index=list(names).index(how), format_func=names.__getitem__, key=keys["how"],
        label_visibility="collapsed", width=212, disabled=bits == FULL, on_change=changed,
    ))  # fmt: skip
    known = list(explorer.quantizers())
    if len(known) > 1:
        row(_("Range"), help_for("quantizer", quantizer, registry.help(quantizer)), lambda: st.selectbox(
            _("Range"), known, index=known.index(quantizer), format_func=lambda name: _(registry[name].title), key=keys["quantizer"],
            label_visibility="collapsed", width=212, disabled=bits == FULL, on_change=changed,
        ))  # fmt: skip
