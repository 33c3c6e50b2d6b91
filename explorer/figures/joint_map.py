"""The map of sparsity and bits as a heat map, its Pareto frontier drawn on it; every cell can be clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from ..core.joint import UNQUANTIZED, Cell, frontier
from .palette import Palette, calm

ROW = 46  # pixels


def joint_map(
    cells: Mapping[tuple[int, int], Cell],
    sparsities: Sequence[float],
    bits: Sequence[int],
    palette: Palette,
    *,
    lower_is_better: bool = False,
    percent: bool = False,
    texts: Mapping[str, str] | None = None,
) -> go.Figure:
    """cells: {(row, column): what is known}; rows are ``bits``, columns ``sparsities``. Paler: worse; empty: not seen yet.

    texts: labels under the keys sparsity, bits, bytes, samples, frontier, none (no quantization).
    """
    words = {
        "sparsity": "sparsity",
        "bits": "bits",
        "bytes": "bytes, counted",
        "samples": "samples",
        "frontier": "Pareto frontier",
        "none": "none",
    }
    words |= dict(texts or {})
    values: list[list[float | None]] = [[None] * len(sparsities) for _ in bits]
    labels = [[""] * len(sparsities) for _ in bits]
    for (row, column), cell in cells.items():
        values[row][column] = cell.value if cell.value == cell.value else None
        labels[row][column] = _label(cell, percent)
    seen = [v for row in values for v in row if v is not None]
    best_first = [palette.kept, palette.panel] if lower_is_better else [palette.panel, palette.kept]
    figure = go.Figure(
        go.Heatmap(
            z=values, x=list(range(len(sparsities))), y=list(range(len(bits))), zmin=min(seen, default=0), zmax=max(seen, default=1),
            colorscale=[[0, best_first[0]], [1, best_first[1]]], showscale=False, xgap=2, ygap=2, hoverinfo="skip",
            text=labels, texttemplate="%{text}", textfont={"size": 11},
        )
    )  # fmt: skip
    best = frontier(cells.values(), lower_is_better)
    for one in best:
        figure.add_shape(
            type="rect",
            x0=one.column - 0.47,
            x1=one.column + 0.47,
            y0=one.row - 0.44,
            y1=one.row + 0.44,
            line={"color": palette.cut, "width": 2.5},
        )
    figure.add_scatter(  # stands in the legend for the shapes
        x=[None], y=[None], mode="markers", name=words["frontier"], showlegend=True,
        marker={"symbol": "square-open", "size": 16, "color": palette.cut, "line": {"width": 2.5}},
    )  # fmt: skip
    known = [cells[at] for at in sorted(cells)]
    shown = "%{customdata[0]:.2%}" if percent else "%{customdata[0]:.4g}"
    figure.add_scatter(
        x=[one.column for one in known], y=[one.row for one in known], mode="markers", showlegend=False,
        marker={"symbol": "square", "size": ROW - 6, "color": palette.kept, "opacity": 0},
        selected={"marker": {"opacity": 0}}, unselected={"marker": {"opacity": 0}},
        customdata=[[one.value, one.bytes, one.n, one.sparsity, one.bits, one.row, one.column] for one in known],
        hovertemplate=(
            f"{words['sparsity']} %{{customdata[3]:.0%}} · %{{customdata[4]}} {words['bits']}<br><b>{shown}</b> · %{{customdata[2]:,}} {words['samples']}"
            f"<br>%{{customdata[1]:,}} {words['bytes']}<extra></extra>"
        ),
    )  # fmt: skip
    calm(figure, palette, ROW * len(bits) + 96)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 0, "y": 1.12}, clickmode="event+select")
    names = [words["none"] if one == UNQUANTIZED else str(one) for one in bits]
    figure.update_yaxes(
        tickvals=list(range(len(bits))),
        ticktext=names,
        title={"text": words["bits"]},
        showgrid=False,
        range=[-0.5, len(bits) - 0.5],
    )
    columns = [f"{one:.0%}" for one in sparsities]
    figure.update_xaxes(
        tickvals=list(range(len(sparsities))),
        ticktext=columns,
        title={"text": words["sparsity"]},
        showgrid=False,
        range=[-0.5, len(sparsities) - 0.5],
    )
    return figure


def _label(cell: Cell, percent: bool) -> str:
    """The value and the kilobytes; what is not seen on all samples yet has a ~ in front."""
    value = f"{100 * cell.value:.1f}" if percent else f"{cell.value:.3g}"
    size = f"{cell.bytes / 1000:.1f}" if cell.bytes < 100_000 else f"{cell.bytes / 1000:,.0f}"
    return f"{'' if cell.complete else '~'}{value}<br>{size} kB"
