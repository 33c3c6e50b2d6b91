"""A confusion matrix; rows = target, columns = prediction."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from .palette import Palette, layout, plain


def confusion(
    matrix: Sequence[Sequence[int]], names: Sequence[str], palette: Palette, target: str = "target", prediction: str = "answer"
) -> go.Figure:
    """Counts, shaded by their share of the row."""
    shares = [[n / max(1, sum(row)) for n in row] for row in matrix]
    shown = [plain(name) for name in names]
    across = {"showgrid": False, "tickfont": {"size": 10}, "tickangle": -45}
    down = {"autorange": "reversed", "showgrid": False, "tickfont": {"size": 10}}
    return go.Figure(
        go.Heatmap(
            z=shares, x=shown, y=shown, text=[[f"{n:,}" if n else "" for n in row] for row in matrix], texttemplate="%{text}",
            textfont={"size": 10}, colorscale=[[0, "rgba(0,0,0,0)"], [1, palette.kept]], zmin=0, zmax=1, showscale=False,
            customdata=[list(row) for row in matrix], xgap=1, ygap=1,
            hovertemplate=f"{target} %{{y}}<br>{prediction} %{{x}}<br>%{{customdata:,}} (%{{z:.1%}})<extra></extra>",
        ),
        layout(palette, max(260, 24 * len(names) + 90), across, down),
    )  # fmt: skip
