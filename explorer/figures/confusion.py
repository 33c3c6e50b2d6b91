"""A confusion matrix; rows = target, columns = prediction."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from .palette import Palette, calm, numbers, plain, written


def confusion(
    matrix: Sequence[Sequence[int]],
    names: Sequence[str],
    palette: Palette,
    target: str = "target",
    prediction: str = "answer",
) -> go.Figure:
    """Counts, shaded by their share of the row."""
    shares = [[n / max(1, sum(row)) for n in row] for row in matrix]
    shown = [plain(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=shares, x=shown, y=shown, colorscale=[[0, palette.panel], [1, palette.kept]], zmin=0, zmax=1, showscale=False,
            customdata=[list(row) for row in matrix], xgap=1, ygap=1,
            hovertemplate=f"{target} %{{y}}<br>{prediction} %{{x}}<br>%{{customdata:,}} (%{{z:.1%}})<extra></extra>",
        )
    )  # fmt: skip
    calm(figure, palette, max(260, 24 * len(names) + 90))
    texts = [[f"{n:,}" if n else "" for n in row] for row in matrix]
    numbers(
        figure,
        shown,
        shown,
        texts,
        [[written((palette.panel, palette.kept), one) for one in row] for row in shares],
        10,
    )
    figure.update_yaxes(type="category", showgrid=False, tickfont={"size": 10})
    figure.update_xaxes(type="category", showgrid=False, tickfont={"size": 10}, tickangle=-45)
    return figure
