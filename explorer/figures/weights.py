"""A weight tensor as a heat map with its mask."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from .palette import Palette, calm


def weights(values: np.ndarray, cut: np.ndarray, palette: Palette, rows: str = "outputs", columns: str = "inputs") -> go.Figure:
    """values, cut: [rows, cols]. Kept weights in blue by magnitude, cut ones in orange."""
    kept = np.where(cut, np.nan, np.abs(values))
    reach = float(np.nanmax(kept)) if np.isfinite(kept).any() else 1.0
    figure = go.Figure()
    figure.add_heatmap(
        z=np.where(cut, 1.0, np.nan), colorscale=[[0, palette.cut], [1, palette.cut]], opacity=0.55, showscale=False, hoverinfo="skip"
    )
    figure.add_heatmap(
        z=kept.round(6), customdata=values.round(6), zmin=0, zmax=reach or 1.0, colorscale=[[0, palette.panel], [1, palette.kept]],
        colorbar={"title": {"text": "|w|"}, "thickness": 10, "outlinewidth": 0},
        hovertemplate=f"{rows} %{{y}}, {columns} %{{x}}<br>w = %{{customdata:.4g}}<extra></extra>",
    )  # fmt: skip
    calm(figure, palette, 380)
    figure.update_yaxes(autorange="reversed", showgrid=False, title={"text": rows})
    figure.update_xaxes(showgrid=False, title={"text": columns})
    return figure
