"""The colours, and what they mean, in the light and the dark theme."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Palette:
    """kept, cut, quantized: what happens to weights. better, worse: a change. ink, faint, line, panel: the page."""

    kept: str
    cut: str
    quantized: str
    better: str
    worse: str
    ink: str
    faint: str
    line: str
    panel: str


LIGHT = Palette("#3b6fd4", "#d4714a", "#7a4fc0", "#16803c", "#c0392b", "#1a2233", "#5b6579", "#e1e5ec", "#f6f7f9")
DARK = Palette("#7aa2f7", "#e58a66", "#b48cf2", "#5fbf8a", "#f2836f", "#e6e9ef", "#9aa3b2", "#2a2f3a", "#171b22")


def tinted(colour: str, opacity: float) -> str:
    """A palette's colour, so translucent."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def plain(name: str) -> str:
    """A name as it is: Plotly would read tags, entities and %{...} in it, and names come from strangers' files."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%\u2060{")


def calm(figure: go.Figure, palette: Palette, height: int) -> go.Figure:
    """The layout that every figure shares."""
    figure.update_layout(
        height=height, margin={"l": 8, "r": 8, "t": 8, "b": 8}, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"color": palette.faint, "size": 12}, showlegend=False, hoverlabel={"namelength": -1}, dragmode=False,
    )  # fmt: skip
    figure.update_xaxes(gridcolor=palette.line, zeroline=False, automargin=True, fixedrange=True)
    figure.update_yaxes(gridcolor=palette.line, zeroline=False, automargin=True, fixedrange=True)
    return figure
