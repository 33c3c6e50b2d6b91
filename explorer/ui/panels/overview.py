"""The network as a strip of layers: select one, lock one."""

from __future__ import annotations

import streamlit as st

from explorer.core.report import Counts
from explorer.models.subject import Subject

from .. import edits, units
from ..components.overview import overview
from ..i18n import _
from ..state import Workspace
from . import controls

KEY = "overview"


def render(space: Workspace, subject: Subject, counts: Counts, protected: frozenset[str]) -> None:
    """Draw the strip from the committed recipe; while the handle moves it follows by itself."""
    groups = {group.name: group for group in subject.groups}
    depth = controls.current(space, subject, subject.layer(space.layer)).granularity == "layer"
    around = {name: group for group in subject.blocks for name in group.producers} if depth else {}
    names = {layer.name for layer in subject.layers}
    layers = []
    for layer in subject.layers:
        one = counts.layers[layer.name]
        module = layer.name.removesuffix(".weight")
        block, dot, last = module.rpartition(".")
        group = around.get(layer.name) if depth else groups.get(layer.group or "")
        layers.append(
            {
                "name": layer.name, "label": module, "block": block, "kind": units.layer(layer.kind), "shape": " × ".join(map(str, layer.shape)),
                "numel": layer.numel, "sparsity": one.sparsity, "bits": one.bits, "full": layer.bits, "attenuated": one.attenuated / one.original,
                "locked": layer.name in protected,
                "coupled": [name for name in group.members if name in names and name != layer.name] if group else [],
            }
        )  # fmt: skip
    overview({"layers": layers, "selected": space.layer, "text": _texts()}, key=KEY, on_select=lambda: _selected(space, subject), on_lock=lambda: _locked(space, subject))


def _selected(space: Workspace, subject: Subject) -> None:
    name = (st.session_state.get(KEY) or {}).get("select")
    if name in {layer.name for layer in subject.layers}:
        space.select(name)


def _locked(space: Workspace, subject: Subject) -> None:
    name = (st.session_state.get(KEY) or {}).get("lock")
    if name in {layer.name for layer in subject.layers}:
        recipe = edits.toggle_lock(space.history.present, subject.layers, subject.layer(name))
        space.replace(space.history.push(recipe))


def _texts() -> dict[str, str]:
    return {
        "label": _("Layers"), "parameters": _("parameters"), "sparsity": _("sparsity"), "left": _("left"), "bits": _("bits"), "bit": _("bit"),
        "locked": _("protected"), "coupled": _("pruned together"), "lock": _("Protect this layer (L)"), "unlock": _("Lift the protection (L)"),
    }  # fmt: skip
