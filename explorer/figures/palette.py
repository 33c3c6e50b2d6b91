"""The colours, and what they mean, in the light and the dark theme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True)
class Palette:
    """kept, cut, quantized: what happens to weights. better, worse: a change. ink, faint, line, panel: the page. on: what is written on kept."""

    kept: str
    cut: str
    quantized: str
    better: str
    worse: str
    ink: str
    faint: str
    line: str
    panel: str
    on: str


LIGHT = Palette("#3b6fd4", "#d4714a", "#7a4fc0", "#16803c", "#c0392b", "#1a2233", "#5b6579", "#e1e5ec", "#f6f7f9", "#ffffff")
DARK = Palette("#7aa2f7", "#e58a66", "#b48cf2", "#5fbf8a", "#f2836f", "#e6e9ef", "#9aa3b2", "#2a2f3a", "#171b22", "#10131a")


def tinted(colour: str, opacity: float) -> str:
    """A palette's colour, so translucent."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def written(colours: tuple[str, str], share: float) -> str:
    """Black or white: what is easier to read on the colour that lies ``share`` of the way from the first to the second (WCAG 2.1, contrast)."""
    first, second = ([int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in colours)
    linear = [_linear((a + share * (b - a)) / 255) for a, b in zip(first, second, strict=True)]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "#000000"


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def numbers(figure: go.Figure, x: list[str], y: list[str], texts: list[list[str]], colours: list[list[str]], size: int) -> None:
    """Write into the cells of a heat map, each in a colour of its own (a heat map has one for all), the first row at the top."""
    places = [(i, j) for i in range(len(y)) for j in range(len(x)) if texts[i][j]]
    figure.add_scatter(
        x=[x[j] for _, j in places], y=[y[i] for i, _ in places], text=[texts[i][j] for i, j in places], mode="text", hoverinfo="skip",
        textfont={"size": size, "color": [colours[i][j] for i, j in places]},
    )  # fmt: skip
    figure.update_xaxes(range=[-0.5, len(x) - 0.5], autorange=False)
    figure.update_yaxes(range=[len(y) - 0.5, -0.5], autorange=False)


def plain(name: str) -> str:
    """A name as it is: Plotly would read tags, entities and %{...} in it, and names come from strangers' files."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%\u2060{")


def layout(
    palette: Palette, height: int, x: Mapping[str, Any] | None = None, y: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The layout that every figure shares. x, y: what is a figure's own of its axes. Given to ``go.Figure`` it costs 2 ms; each
    of plotly's updates later on walks over all that a figure has, which takes several times as long."""
    axis = {
        "gridcolor": palette.line, "zeroline": False, "automargin": True, "fixedrange": True,
        "tickfont": {"color": palette.faint}, "title": {"font": {"color": palette.faint}},  # the toolkit's own grey is too light to read
    }  # fmt: skip
    return {
        "height": height, "margin": {"l": 8, "r": 8, "t": 8, "b": 8}, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": palette.faint, "size": 12}, "showlegend": False, "hoverlabel": {"namelength": -1}, "dragmode": False,
        "xaxis": axis | dict(x or {}), "yaxis": axis | dict(y or {}),
    }  # fmt: skip


def calm(figure: go.Figure, palette: Palette, height: int) -> go.Figure:
    """The shared layout of a figure that has its own already, of several panels for instance."""
    wanted = layout(palette, height)
    for first in ("xaxis", "yaxis"):
        axis = wanted.pop(first)
        wanted |= {name: axis for name in {first, *(key for key in figure.layout if key.startswith(first))}}
    figure.update_layout(wanted)
    return figure
