"""A training's course: the metric with its interval and the loss, epoch by epoch; below, sparsity and learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.training import Epoch, Step
from .palette import Palette, calm, plain, tinted


def training(
    curve: Sequence[Epoch], steps: Sequence[Step], palette: Palette, names: tuple[str, str, str, str], original: float | None = None,
    percent: bool = True, total: int | None = None,
) -> go.Figure:  # fmt: skip
    """names: of the metric, the loss, sparsity, learning rate, as on screen. original: the metric before anything was done, a dotted line.

    All run over steps of the optimizer; total: how many there will be, while it goes on. percent: the metric is a fraction. The band
    is the 95 % interval, where every epoch's figure has one; a green point was the best so far. Of the loss, each batch's is thin and
    orange, an epoch's mean has points.
    """
    metric, loss, sparsity, rate = map(plain, names)
    figure = make_subplots(
        rows=2, cols=2, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.12, horizontal_spacing=0.11,
        subplot_titles=(metric, loss, sparsity, rate),
    )  # fmt: skip
    at, seen = [one.step for one in curve], [one.figure for one in curve]
    if seen and all(one.low is not None and one.high is not None for one in seen):
        for edge, fill in (("high", None), ("low", "tonexty")):
            figure.add_scatter(
                x=at, y=[getattr(one, edge) for one in seen], mode="lines", line={"width": 0}, hoverinfo="skip", fill=fill,
                fillcolor=tinted(palette.kept, 0.18), name="95 %", row=1, col=1,
            )  # fmt: skip
    best = [palette.better if one.best else palette.kept for one in curve]
    figure.add_scatter(
        x=at, y=[one.value for one in seen], mode="lines+markers", name=metric, row=1, col=1,
        line={"color": palette.kept, "width": 2}, marker={"size": 7 if len(at) <= 40 else 5, "color": best}, customdata=[[one.epoch, one.figure.n] for one in curve],
        hovertemplate=f"%{{customdata[0]}}: %{{y:{'.2%' if percent else '.4g'}}}, n = %{{customdata[1]}}<extra></extra>",
    )  # fmt: skip
    if original is not None:
        figure.add_hline(y=original, line={"color": palette.faint, "width": 1.5, "dash": "dot"}, row=1, col=1)
    if steps:
        figure.add_scatter(
            x=[one.step for one in steps], y=[one.loss for one in steps], mode="lines", name=loss, row=1, col=2,
            line={"color": palette.cut, "width": 1}, hovertemplate="%{x}: %{y:.4g}<extra></extra>",
        )  # fmt: skip
    means = [one for one in curve if one.loss is not None]
    if means:
        figure.add_scatter(
            x=[one.step for one in means], y=[one.loss for one in means], mode="lines+markers", row=1, col=2,
            line={"color": palette.ink, "width": 2}, marker={"size": 6 if len(at) <= 40 else 4}, hovertemplate="%{x}: %{y:.4g}<extra></extra>",
        )  # fmt: skip
    before = [one for one in curve if not steps or one.step < steps[0].step]  # of a training that went on, what was told of its past
    along: list[Epoch | Step] = [*before, *steps]
    for column, field, form in ((1, "sparsity", ".1%"), (2, "lr", ".2e")):
        figure.add_scatter(
            x=[one.step for one in along], y=[getattr(one, field) for one in along], mode="lines", row=2, col=column,
            line={"color": palette.quantized, "width": 1.5}, hovertemplate=f"%{{x}}: %{{y:{form}}}<extra></extra>",
        )  # fmt: skip
    calm(figure, palette, 360)
    figure.update_layout(margin={"t": 26})
    figure.update_annotations(font={"size": 12, "color": palette.faint}, x=None)
    for index, title in enumerate(figure.layout.annotations[:4]):
        title.update(x=0.0 if index % 2 == 0 else 0.555, xanchor="left", font={"size": 12, "color": palette.ink})
    if end := total or max((one.step for one in along[-1:] + list(curve[-1:])), default=0):  # the same on all panels
        figure.update_xaxes(range=[-0.02 * end, 1.02 * end])
    figure.update_yaxes(tickformat=".3~%" if percent else ".5~g", row=1, col=1)
    figure.update_yaxes(tickformat=".0%", row=2, col=1, rangemode="tozero")
    figure.update_yaxes(tickformat=".2~e", row=2, col=2, rangemode="tozero")
    figure.update_yaxes(tickformat=".5~g", row=1, col=2)
    if not steps and not means:  # an axis without a value would show numbers that nobody measured
        figure.update_yaxes(showticklabels=False, showgrid=False, row=1, col=2)
    return figure
