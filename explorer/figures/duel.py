"""A metric against sparsity, a line a criterion, with the intervals of the measured points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import plotly.graph_objects as go

from .palette import Palette, calm, plain

COLOURS = ("#3b6fd4", "#16803c", "#7a4fc0", "#c77d0a", "#0b8a9e", "#c0392b", "#8a5a2b", "#b0408a")


class Measured(Protocol):
    """A point; see studies.duel.Point."""

    @property
    def criterion(self) -> str: ...
    @property
    def sparsity(self) -> float: ...
    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def duel(
    points: Sequence[Measured], palette: Palette, titles: Mapping[str, str], metric: str, sparsity: str = "sparsity", floor: str = "random",
    ceiling: str = "loss-change", percent: bool = True, reach: tuple[float, float] | None = None,
) -> go.Figure:  # fmt: skip
    """titles: {criterion: its name on screen}, in the order of the legend. floor and ceiling are drawn dotted, in grey and ink.

    percent: the metric is a fraction. reach: the metric's range, where values outside of it say nothing.
    """
    figure = go.Figure()
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(n for n in titles if n not in (floor, ceiling))}
    form = ".1%" if percent else ".4g"
    for name, title in ((name, plain(title)) for name, title in titles.items()):
        own = sorted((p for p in points if p.criterion == name), key=lambda p: p.sparsity)
        if not own:
            continue
        colour = {floor: palette.faint, ceiling: palette.ink}.get(name, colours.get(name, palette.kept))
        bars = None
        if all(p.low is not None and p.high is not None for p in own):
            up = [(p.high or 0.0) - p.value for p in own]
            bars = {
                "type": "data",
                "array": up,
                "arrayminus": [p.value - (p.low or 0.0) for p in own],
                "thickness": 1,
                "width": 3,
            }
        figure.add_scatter(
            x=[p.sparsity for p in own], y=[p.value for p in own], mode="lines+markers", name=title, error_y=bars,
            line={"color": colour, "width": 2, "dash": "dot" if name in (floor, ceiling) else "solid"}, marker={"size": 6},
            hovertemplate=f"%{{x:.0%}}: %{{y:{form}}}<extra>{title}</extra>",
        )  # fmt: skip
    calm(figure, palette, 380)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.2, "font": {"color": palette.ink}})
    figure.update_xaxes(title={"text": sparsity}, tickformat=".0%", range=[-0.02, 1.0])
    figure.update_yaxes(
        title={"text": plain(metric)}, tickformat=".3~%" if percent else None, range=list(reach) if reach else None
    )
    return figure
