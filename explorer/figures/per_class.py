"""Recall by class, before and after, as a dumbbell a class."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from ..core.report import ClassScore
from .palette import Palette, layout, plain


def per_class(
    scores: Mapping[str, ClassScore], palette: Palette, before: str = "before", after: str = "after",
    third: tuple[str, Mapping[str, ClassScore]] | None = None,
) -> go.Figure:  # fmt: skip
    """One row a class in the order given; the line is red where recall fell, green where it rose. third: a name and one more state's
    recall, drawn as open circles."""
    scores = {plain(name): score for name, score in scores.items()}
    names = list(scores)
    fell = {name: score.recall < score.recall_before for name, score in scores.items()}
    traces = []
    for worse, colour in ((True, palette.worse), (False, palette.better)):  # a trace each, since making one takes milliseconds
        mine = [name for name in names if fell[name] == worse]
        traces.append(go.Scatter(
            x=[x for name in mine for x in (scores[name].recall_before, scores[name].recall, None)],
            y=[y for name in mine for y in (name, name, None)],
            mode="lines", line={"color": colour, "width": 3}, hoverinfo="skip",
        ))  # fmt: skip
    for label, field, colour in ((before, "recall_before", palette.faint), (after, "recall", palette.kept)):
        traces.append(go.Scatter(
            x=[getattr(score, field) for score in scores.values()], y=names, mode="markers", name=label,
            marker={"color": colour, "size": 9}, customdata=[score.support for score in scores.values()],
            hovertemplate="%{y}: %{x:.1%}, n = %{customdata}<extra>" + label + "</extra>",
        ))  # fmt: skip
    if third is not None:
        label, more = third[0], {plain(name): score for name, score in third[1].items()}
        traces.append(go.Scatter(
            x=[more[name].recall for name in names], y=names, mode="markers", name=label,
            marker={"color": palette.cut, "size": 10, "symbol": "circle-open", "line": {"width": 2}},
            hovertemplate="%{y}: %{x:.1%}<extra>" + label + "</extra>",
        ))  # fmt: skip
    low = min((min(s.recall, s.recall_before) for s in scores.values()), default=0)
    low = min([low, *(one.recall for one in third[1].values())] if third is not None else [low])
    across = {"tickformat": ".0%", "range": [max(-0.02, low - 0.05), 1.02]}
    down = {"type": "category", "autorange": "reversed", "categoryorder": "array", "categoryarray": names, "tickfont": {"color": palette.ink}}
    return go.Figure(traces, layout(palette, max(180, 26 * len(names) + 50), across, down))
