"""A roofline: what the machine allows, and where a model's layers stand under it, before and after."""

from __future__ import annotations

from math import log10

import numpy as np
import plotly.graph_objects as go

from ..core.explanation import Roofline, RooflinePoint
from .palette import Palette, calm, plain

GIGA = 1e9


def roofline(
    roof: Roofline,
    palette: Palette,
    original: str = "original",
    compressed: str = "compressed",
    x: str = "FLOPs a byte",
    y: str = "GFLOP/s",
) -> go.Figure:
    """Both axes logarithmic. Open circles: the original's layers; filled ones: the compressed model's, joined where they moved."""
    figure = go.Figure()
    points = [one for one in roof.points if one.flops]
    reach = [one.intensity for one in points] or [roof.ridge]
    low, high = min([*reach, roof.ridge]) / 3, max([*reach, roof.ridge]) * 3
    line = np.unique(np.concatenate([np.geomspace(low, high, 40), [roof.ridge]]))
    figure.add_scatter(
        x=line,
        y=[roof.bound(float(one)) / GIGA for one in line],
        mode="lines",
        line={"color": palette.ink, "width": 2},
        hoverinfo="skip",
    )
    kinds = (
        ("original", original, {"color": "rgba(0,0,0,0)", "line": {"color": palette.faint, "width": 1.5}}),
        ("compressed", compressed, {"color": palette.kept}),
    )
    for what, label, marker in kinds:
        mine = [one for one in points if one.what == what]
        figure.add_scatter(
            x=[one.intensity for one in mine], y=[(one.flops or 0) / GIGA for one in mine], mode="markers",
            marker={"size": 11, **marker}, name=label, text=[plain(one.layer) for one in mine],
            customdata=[[(one.flops or 0) / roof.bound(one.intensity), 1e3 * (one.seconds or 0)] for one in mine],
            hovertemplate=f"<b>%{{text}}</b> · {label}<br>{x} %{{x:.1f}}<br>{y} %{{y:.2f}} (%{{customdata[0]:.0%}})<br>%{{customdata[1]:.3f}} ms<extra></extra>",
        )  # fmt: skip
    for before, after in _pairs(points):
        figure.add_scatter(
            x=[before.intensity, after.intensity], y=[(before.flops or 0) / GIGA, (after.flops or 0) / GIGA], mode="lines",
            line={"color": palette.line, "width": 1, "dash": "dot"}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    calm(figure, palette, 320)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 0, "y": 1.08})
    figure.data[0].showlegend = False
    lows = [(one.flops or 0) / GIGA for one in points] or [roof.bound(low) / GIGA]
    figure.update_xaxes(type="log", dtick=1, title={"text": x}, range=[log10(low), log10(high)])
    figure.update_yaxes(
        type="log",
        dtick=1,
        title={"text": y},
        range=[log10(min(*lows, roof.bound(low) / GIGA) / 2), log10(roof.peak / GIGA * 2)],
    )
    return figure


def _pairs(points: list[RooflinePoint]) -> list[tuple[RooflinePoint, RooflinePoint]]:
    before = {one.layer: one for one in points if one.what == "original"}
    return [(before[one.layer], one) for one in points if one.what == "compressed" and one.layer in before]
