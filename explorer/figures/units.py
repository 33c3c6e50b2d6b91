"""A gallery of units: kernels, weights, activations over time, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .palette import Palette, calm

COLUMNS = 6


class Drawn(Protocol):
    """A picture; see analysis.gallery.Picture."""

    @property
    def unit(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def kind(self) -> str: ...
    @property
    def values(self) -> np.ndarray: ...


def units(pictures: Sequence[Drawn], palette: Palette, unit: str = "unit") -> go.Figure:
    """One small plot a unit, lowest score first. Weights: orange negative, blue positive, one scale for all; attention: blue."""
    rows = max(1, math.ceil(len(pictures) / COLUMNS))
    titles = [f"{unit} {p.unit} · {p.score:.3g}" for p in pictures]
    figure = make_subplots(rows, COLUMNS, subplot_titles=titles, horizontal_spacing=0.025, vertical_spacing=0.22 / rows)
    flat = [p.values for p in pictures if p.kind in ("kernels", "image", "row")]
    reach = max((float(np.abs(v).max()) for v in flat if v.size), default=1.0) or 1.0
    both = [[0, palette.cut], [0.5, palette.panel], [1, palette.kept]]
    for index, picture in enumerate(pictures):
        row, column = index // COLUMNS + 1, index % COLUMNS + 1
        if picture.kind == "time":
            for i, line in enumerate(picture.values):
                shade = {"color": palette.kept, "width": 1.3}
                figure.add_scatter(
                    y=line.round(5),
                    mode="lines",
                    line=shade,
                    opacity=1 - 0.2 * min(i, 3),
                    row=row,
                    col=column,
                    hoverinfo="y",
                )
        elif picture.kind == "attention":
            figure.add_heatmap(
                z=picture.values.round(5),
                colorscale=[[0, palette.panel], [1, palette.kept]],
                showscale=False,
                row=row,
                col=column,
            )
        else:
            tile = mosaic(picture.values) if picture.kind == "kernels" else picture.values
            tile = folded(tile) if tile.ndim == 1 else tile
            figure.add_heatmap(
                z=tile.round(6),
                colorscale=both,
                zmin=-reach,
                zmax=reach,
                showscale=False,
                row=row,
                col=column,
                hoverongaps=False,
            )
        if picture.kind != "time":
            axis = f"x{index + 1 if index else ''}"  # pixels are square
            figure.update_yaxes(autorange="reversed", scaleanchor=axis, constrain="domain", row=row, col=column)
            figure.update_xaxes(constrain="domain", row=row, col=column)
    calm(figure, palette, 150 * rows + 30)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 26, "b": 8})
    figure.update_xaxes(showticklabels=False, showgrid=False, ticks="")
    figure.update_yaxes(showticklabels=False, showgrid=False, ticks="")
    figure.update_annotations(font={"size": 11, "color": palette.faint})
    return figure


def mosaic(kernels: np.ndarray) -> np.ndarray:
    """Kernels [n, H, W] beside and below each other, with a line of nothing between."""
    n, high, wide = kernels.shape
    across = math.ceil(math.sqrt(n))
    out = np.full((math.ceil(n / across) * (high + 1) - 1, across * (wide + 1) - 1), np.nan)
    for i, kernel in enumerate(kernels):
        top, left = (i // across) * (high + 1), (i % across) * (wide + 1)
        out[top : top + high, left : left + wide] = kernel
    return out


def folded(row: np.ndarray) -> np.ndarray:
    """A row of weights as a block, read line by line; what is missing at the end is empty."""
    across = math.ceil(math.sqrt(len(row)))
    out = np.full(across * math.ceil(len(row) / across), np.nan)
    out[: len(row)] = row
    return out.reshape(-1, across)
