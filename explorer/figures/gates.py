"""Which gates of a recurrent layer matter: their shares, and their relevance step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from .palette import Palette, calm, plain

if TYPE_CHECKING:
    import pandas as pd

COLOURS = ("#3b6fd4", "#16803c", "#c77d0a", "#7a4fc0")  # in the order of a layer's gates


def shares(table: pd.DataFrame, palette: Palette, names: Mapping[str, str], weights: str = "weights") -> go.Figure:
    """A bar a gate and tensor. table: layer, gate, share, mean, as :func:`explorer.gate_importance` gives it; names: {gate: on screen}."""
    figure = go.Figure()
    gates = list(dict.fromkeys(table["gate"]))
    for layer, colour in zip(dict.fromkeys(table["layer"]), (palette.kept, palette.faint), strict=False):
        own = table[table["layer"] == layer].set_index("gate").loc[gates]
        figure.add_bar(
            x=own["share"], y=[names.get(gate, gate) for gate in gates], name=plain(str(layer)), orientation="h", marker={"color": colour},
            customdata=own["mean"], hovertemplate=f"{plain(str(layer))}<br>%{{y}}: %{{x:.1%}}<br>%{{customdata:.3g}} / {weights}<extra></extra>",
        )  # fmt: skip
    calm(figure, palette, 60 + 44 * len(gates))
    _legend(figure, palette)
    figure.update_xaxes(tickformat=".3~%", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", tickfont={"color": palette.ink})
    return figure


def over_time(table: pd.DataFrame, palette: Palette, names: Mapping[str, str], step: str = "step") -> go.Figure:
    """A line a gate. table: of one layer, with gate, step and relevance."""
    figure = go.Figure()
    for gate, colour in zip(dict.fromkeys(table["gate"]), COLOURS, strict=False):
        own = table[table["gate"] == gate]
        name = names.get(str(gate), str(gate))
        figure.add_scatter(
            x=own["step"] + 1, y=own["relevance"], mode="lines", name=name, line={"color": colour, "width": 2},
            hovertemplate=f"{step} %{{x}}: %{{y:.3g}}<extra>{name}</extra>",
        )  # fmt: skip
    calm(figure, palette, 260)
    _legend(figure, palette)
    figure.update_xaxes(title={"text": step})
    figure.update_yaxes(rangemode="tozero", exponentformat="power", title={"text": "|z·∂L/∂z|"})
    return figure


def _legend(figure: go.Figure, palette: Palette) -> None:
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "y": 1.12, "font": {"color": palette.ink}, "traceorder": "normal"}
    )
