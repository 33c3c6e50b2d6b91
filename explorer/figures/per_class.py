"""Recall by class, before and after, as a dumbbell a class."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from ..core.report import ClassScore
from .palette import Palette, calm


def per_class(scores: Mapping[str, ClassScore], palette: Palette, before: str = "before", after: str = "after") -> go.Figure:
    """One row a class in the order given; the line is red where recall fell, green where it rose."""
    names = list(scores)
    figure = go.Figure()
    for name, score in scores.items():
        colour = palette.worse if score.recall < score.recall_before else palette.better
        figure.add_scatter(
            x=[score.recall_before, score.recall], y=[name, name], mode="lines", line={"color": colour, "width": 3}, hoverinfo="skip"
        )  # fmt: skip
    for label, field, colour in ((before, "recall_before", palette.faint), (after, "recall", palette.kept)):
        figure.add_scatter(
            x=[getattr(score, field) for score in scores.values()], y=names, mode="markers", name=label,
            marker={"color": colour, "size": 9}, customdata=[score.support for score in scores.values()],
            hovertemplate="%{y}: %{x:.1%}, n = %{customdata}<extra>" + label + "</extra>",
        )  # fmt: skip
    calm(figure, palette, max(180, 26 * len(names) + 50))
    low = min((min(s.recall, s.recall_before) for s in scores.values()), default=0)
    figure.update_xaxes(tickformat=".0%", range=[max(-0.02, low - 0.05), 1.02])
    figure.update_yaxes(autorange="reversed", tickfont={"color": palette.ink})
    return figure
