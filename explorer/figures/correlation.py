"""Rank correlations between criteria, and two criteria's ranks against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from .palette import Palette, calm, numbers, plain, written


def matrix(values: np.ndarray, names: Sequence[str], palette: Palette) -> go.Figure:
    """values [n, n] from -1 (orange) to 1 (blue); NaN, where a score is constant, is empty."""
    names = [plain(name) for name in names]
    shown = [["" if np.isnan(v) else f"{v:.2f}".replace("-0.00", "0.00").replace("-", "−") for v in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            z=values.round(4), x=names, y=names, zmin=-1, zmax=1, xgap=1, ygap=1,
            colorscale=[[0, palette.cut], [0.5, palette.panel], [1, palette.kept]], showscale=False, hoverongaps=False,
            hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    calm(figure, palette, max(240, 34 * len(names) + 90))
    ends = np.where(values < 0, palette.cut, palette.kept)
    colours = [[written((palette.panel, str(end)), abs(float(v)) if v == v else 0.0) for end, v in zip(*row, strict=True)] for row in zip(ends, values, strict=True)]
    numbers(figure, names, names, shown, colours, 11)
    figure.update_yaxes(showgrid=False, tickfont={"color": palette.ink})
    figure.update_xaxes(showgrid=False, tickangle=-35)
    return figure


def scatter(
    x: np.ndarray, y: np.ndarray, palette: Palette, names: tuple[str, str], cut: float = 0.0, units: Sequence[int] | None = None,
    words: Mapping[str, str] | None = None,
) -> go.Figure:  # fmt: skip
    """Ranks of the same weights (units) under two criteria, as fractions from 0 (goes first) to 1.

    cut: the fraction that would go; what only one of the two would cut is orange. words: {"first": ..., "unit": ...} for the axes.
    """
    words = words or {}
    torn = (x < cut) != (y < cut)
    figure = go.Figure()
    for chosen, colour in ((~torn, palette.kept), (torn, palette.cut)):
        label = [
            f"{words.get('unit', 'unit')} {units[int(i)]}<br>" if units is not None else ""
            for i in np.flatnonzero(chosen)
        ]
        figure.add_scattergl(
            x=x[chosen].round(4), y=y[chosen].round(4), mode="markers", customdata=label, marker={"size": 7 if units is not None else 4, "color": colour, "opacity": 0.65},
            hovertemplate="%{customdata}%{x:.0%}, %{y:.0%}<extra></extra>",
        )  # fmt: skip
    calm(figure, palette, 360)
    if cut > 0:
        figure.add_vline(x=cut, line={"color": palette.cut, "width": 1})
        figure.add_hline(y=cut, line={"color": palette.cut, "width": 1})
    figure.update_xaxes(title={"text": plain(names[0])}, tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(title={"text": plain(names[1])}, tickformat=".0%", range=[-0.02, 1.02])
    return figure
