"""A weight tensor as a heat map with its mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from .palette import Palette, calm


def weights(
    values: np.ndarray, cut: np.ndarray, palette: Palette, rows: str = "outputs", columns: str = "inputs",
    gates: Sequence[str] = (), reach: float | None = None, step: int = 1,
) -> go.Figure:  # fmt: skip
    """values, cut: [rows, cols]. Kept weights in blue by magnitude, cut ones in orange.

    gates: names of equal blocks of rows, one below the other. reach: |w| of the deepest blue, so that two figures compare.
    step: how many rows and columns of the tensor one drawn row and column stands for; axes count the tensor's.
    """
    kept = np.where(cut, np.nan, np.abs(values))
    reach = reach or (float(np.nanmax(kept)) if np.isfinite(kept).any() else 1.0)
    figure = go.Figure()
    places = {"x0": 0, "dx": step, "y0": 0, "dy": step}
    figure.add_heatmap(
        **places, z=np.where(cut, 1.0, np.nan), colorscale=[[0, palette.cut], [1, palette.cut]], opacity=0.55, showscale=False, hoverinfo="skip"
    )
    figure.add_heatmap(
        **places, z=kept.round(6), customdata=values.round(6), zmin=0, zmax=reach or 1.0, colorscale=[[0, palette.panel], [1, palette.kept]],
        colorbar={"title": {"text": "|w|"}, "thickness": 10, "outlinewidth": 0},
        hovertemplate=f"{rows} %{{y}}, {columns} %{{x}}<br>w = %{{customdata:.4g}}<extra></extra>",
    )  # fmt: skip
    calm(figure, palette, 380)
    figure.update_yaxes(autorange="reversed", showgrid=False, title={"text": rows})
    figure.update_xaxes(showgrid=False, title={"text": columns})
    if gates:
        size, edge = step * values.shape[0] / len(gates), step / 2
        for i in range(1, len(gates)):
            figure.add_hline(y=i * size - edge, line={"color": palette.ink, "width": 1})
        figure.update_yaxes(tickvals=[(i + 0.5) * size - edge for i in range(len(gates))], ticktext=list(gates))
    return figure
