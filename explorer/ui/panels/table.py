"""Every layer in a sortable table, with a CSV to take away."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import explorer
from explorer.core.layers import Layer
from explorer.evaluate.costs import counts
from explorer.models.subject import Subject

from .. import units
from ..i18n import _, translated
from ..state import Workspace


def frame(space: Workspace, subject: Subject) -> pd.DataFrame:
    """One row a layer: what it was, what is left of it."""
    plan = explorer.resolve(subject, space.history.present)
    found = counts(subject, plan)
    rows = []
    for layer in subject.layers:
        one = found.layers[layer.name]
        codes = plan.codes.get(layer.name)
        rows.append(
            {
                "layer": layer.name, "kind": layer.kind, "shape": "×".join(map(str, layer.shape)), "shape_left": "×".join(map(str, one.shape)),
                "weights": one.original, "left": one.remaining, "nonzero": one.nonzero, "sparsity": one.sparsity,
                "attenuated": one.attenuated, "bits": one.bits, "scheme": codes.scheme if codes else "", "bytes_before": one.original * layer.bits // 8,
                "bytes": one.bytes, "group": layer.group or "", "protected": layer.name in plan.protected,
                "why_no_units": _why(subject, layer),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def told(data: pd.DataFrame) -> list[str]:
    """The columns that say something: of what nothing was done to, and of what no layer has, there is none."""
    same = {"shape_left": "shape", "left": "weights", "bytes_before": "bytes"}
    empty = ("attenuated", "scheme", "group", "protected", "why_no_units")
    quiet = {name for name, before in same.items() if (data[name] == data[before]).all()}
    return [name for name in data if name not in quiet and not (name in empty and not data[name].any())]


def _scheme(name: str) -> str:
    """A scheme of rounding, as it is called in the session's language."""
    names = {
        "symmetric": _("symmetric"), "affine": _("affine"), "power-of-two": _("power of two"), "ternary": _("ternary"), "binary": _("binary"),
        "codebook": _("codebook"), "float": _("float"),
    }  # fmt: skip
    return names.get(name, name)


def _why(subject: Subject, layer: Layer) -> str:
    return "" if layer.group else subject.structure.refused.get(layer.name, "")


def render(space: Workspace, subject: Subject) -> None:
    """The table; all of it counted."""
    data = frame(space, subject)
    said = [translated(_why(subject, layer)) for layer in subject.layers]
    st.dataframe(
        data.assign(why_no_units=said, kind=data["kind"].map(units.layer), scheme=data["scheme"].map(_scheme)),  # the file below stays English, as its columns are
        hide_index=True,
        column_order=told(data),
        column_config={
            "layer": st.column_config.TextColumn(_("layer"), pinned=True),
            "kind": _("kind"), "shape": _("shape"), "shape_left": _("shape left"), "weights": st.column_config.NumberColumn(_("weights"), format="localized"),
            "left": st.column_config.NumberColumn(_("left"), format="localized"), "nonzero": st.column_config.NumberColumn(_("non-zero"), format="localized"),
            "sparsity": st.column_config.ProgressColumn(_("sparsity"), format="percent", min_value=0, max_value=1),
            "attenuated": st.column_config.NumberColumn(_("attenuated"), format="localized"), "bits": _("bits"), "scheme": _("scheme"),
            "bytes_before": st.column_config.NumberColumn(_("bytes before"), format="localized"), "bytes": st.column_config.NumberColumn(_("bytes"), format="localized"),
            "group": _("group"), "protected": _("protected"), "why_no_units": _("why no units can go"),
        },
    )  # fmt: skip
    st.download_button(_("Download CSV"), data.to_csv(index=False), f"{subject.name}-layers.csv", "text/csv", icon=":material/download:", on_click="ignore")
