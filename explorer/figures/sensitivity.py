"""Sensitivity curves: small multiples and one overlay, each with its noise band, the most robust first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.colors import find_intermediate_color, hex_to_rgb, label_rgb
from plotly.subplots import make_subplots

from ..studies.ranking import curves, ranking, tolerated
from .palette import LIGHT, Palette, calm, plain

if TYPE_CHECKING:
    import pandas as pd

PANEL = 150  # pixels of a small multiple, its title included
LONG = 26  # characters of a name that are shown
NAMED = 4  # of the overlay's curves, the most sensitive ones are named


@dataclass(frozen=True)
class Words:
    """Texts in the viewer's language."""

    point: str = "sparsity"
    change: str = "change"
    samples: str = "n"
    parameters: str = "weights"
    macs: str = "MACs"
    units: str = "units"
    click: str = ""


def _scale(table: pd.DataFrame) -> tuple[float, str]:
    """(factor, hover format): points for fractions, the metric's own unit else."""
    start = float((table["metric"] - table["change"]).abs().max())
    return (100.0, "+.2f") if start <= 1 and not table.attrs["lower_is_better"] else (1.0, "+.4f")


def _shade(colour: str, opacity: float) -> str:
    r, g, b = hex_to_rgb(colour) if colour.startswith("#") else [int(float(v)) for v in colour[4:-1].split(",")]
    return f"rgba({r},{g},{b},{opacity})"


def _curve(
    mine: pd.DataFrame, by: str, factor: float, form: str, colour: str, words: Words, size: int = 6
) -> list[Any]:
    """A line with its band, dashed where units go; points carry (target, step), so that a click says what was meant."""
    x = mine[by] * (100 if by == "sparsity" else 1)
    y, unit = mine["change"] * factor, " %" if by == "sparsity" else ""
    out = []
    if mine["change_low"].notna().all():
        edge = [*(mine["change_high"] * factor), *(mine["change_low"] * factor)[::-1]]
        out.append(
            go.Scatter(x=[*x, *x[::-1]], y=edge, fill="toself", fillcolor=_shade(colour, 0.16), line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False)
        )  # fmt: skip
    target = str(mine["target"].iloc[0])
    hover = f"<b>{plain(target)}</b><br>{words.point} %{{x:g}}{unit}<br>{plain(words.change)} %{{y:{form}}}<br>{words.samples} = %{{customdata[2]:,}}"
    still = {"marker": {"opacity": 1}}
    out.append(
        go.Scatter(
            x=x, y=y, mode="lines+markers", line={"color": colour, "width": 2, "dash": _dash(mine)}, marker={"color": colour, "size": size}, name=plain(target),
            customdata=[[target, float(p), int(n)] for p, n in zip(mine[by], mine["n"], strict=True)], selected=still, unselected=still,
            hovertemplate=hover + (f"<br><i>{words.click}</i>" if words.click else "") + "<extra></extra>",
        )
    )  # fmt: skip
    return out


def _dash(mine: pd.DataFrame) -> str:
    return "dash" if (mine["granularity"] == "unit").all() else "solid"


def _axes(figure: go.Figure, table: pd.DataFrame, factor: float) -> None:
    """One scale for all; worse is down; what lies far below is left out, so that the rest can be told apart."""
    by, lower = table.attrs["sweep"].by, table.attrs["lower_is_better"]
    ends = table["change"] if table["change_low"].isna().any() else table["change_high" if lower else "change_low"]
    start = float((table["metric"] - table["change"]).abs().max())
    reach = min(float((ends if lower else -ends).max()), 1.25 * start)
    reach = max(reach, 2 * tolerated(table)) * factor * 1.05
    best = max(float((-table["change"] if lower else table["change"]).max()), 0.0)
    room = max(best * factor * 1.3, 0.12 * reach)
    figure.update_yaxes(range=[reach, -room] if lower else [-reach, room], zeroline=True)
    points = sorted(set(table[by]))
    if by == "sparsity":
        figure.update_xaxes(range=[100 * min(points[0], 0.05) - 2, 100], ticksuffix=" %")
    else:
        figure.update_xaxes(range=[max(points) + 0.5, min(points) - 0.5], dtick=1)


def overlay(
    table: pd.DataFrame, palette: Palette = LIGHT, words: Words = Words(), marks: Mapping[str, float] = {}, height: int = 430  # noqa: B006, B008
) -> go.Figure:  # fmt: skip
    """All curves on one chart, from robust (blue) to sensitive (orange); the most sensitive are named. marks: {target: the step
    that a recipe has now}, drawn as an open circle."""
    factor, form = _scale(table)
    found, order, by = curves(table), ranking(table), table.attrs["sweep"].by
    figure = go.Figure()
    names = list(order["target"])
    shades = _colours(order, table, palette)
    for target in names:
        mine, colour = found[found["target"] == target], shades[target]
        for trace in _curve(mine, by, factor, form, colour, words):
            figure.add_trace(trace)
        _mark(figure, mine, by, factor, colour, palette, marks.get(target))
    calm(figure, palette, height)
    _axes(figure, table, factor)
    short = shortened(names)
    for target in names[-NAMED:]:
        last = found[found["target"] == target].iloc[-1]
        x = float(last[by]) * (100 if by == "sparsity" else 1)
        figure.add_annotation(
            x=x,
            y=float(last["change"]) * factor,
            text=plain(short[target]),
            showarrow=False,
            xanchor="left",
            xshift=8,
            font={"size": 11, "color": palette.ink},
        )
    _line(figure, palette)
    first, last = figure.layout.xaxis.range
    figure.update_xaxes(title={"text": words.point}, range=[first, last + 0.06 * (last - first)])
    figure.update_yaxes(title={"text": plain(words.change)})
    return figure


def multiples(
    table: pd.DataFrame, palette: Palette = LIGHT, words: Words = Words(), marks: Mapping[str, float] = {}, columns: int = 4  # noqa: B006, B008
) -> go.Figure:  # fmt: skip
    """A panel a curve on one scale, the most robust first; its shares of the weights and MACs stand in its title."""
    factor, form = _scale(table)
    found, order, by = curves(table), ranking(table), table.attrs["sweep"].by
    shades = _colours(order, table, palette)
    columns = len(order) if len(order) <= columns + 1 else columns
    rows = -(-len(order) // columns)
    short = shortened(list(order["target"]))
    titles = [_title(row, words, short[row.target]) for row in order.itertuples()]
    height = 40 + PANEL * rows
    gap = {"horizontal_spacing": 0.02, "vertical_spacing": min(46 / height, 0.9 / max(rows - 1, 1))}
    figure = make_subplots(rows, columns, shared_xaxes="all", shared_yaxes="all", subplot_titles=titles, **gap)
    for index, target in enumerate(order["target"]):
        where = {"row": index // columns + 1, "col": index % columns + 1}
        mine, colour = found[found["target"] == target], shades[target]
        for trace in _curve(mine, by, factor, form, colour, words, 5):
            figure.add_trace(trace, **where)
        _mark(figure, mine, by, factor, colour, palette, marks.get(target), where)
    calm(figure, palette, height)
    _axes(figure, table, factor)
    _line(figure, palette)
    for index in range(len(order), rows * columns):  # panels without a curve
        figure.update_xaxes(visible=False, row=index // columns + 1, col=index % columns + 1)
        figure.update_yaxes(visible=False, row=index // columns + 1, col=index % columns + 1)
    last = len(order) - columns
    for index in range(max(last, 0), len(order)):  # the lowest panel of every column has the axis
        figure.update_xaxes(showticklabels=True, row=index // columns + 1, col=index % columns + 1)
    figure.update_layout(margin={"t": 30})
    figure.update_annotations(font={"size": 11, "color": palette.ink})
    return figure


def shortened(names: Sequence[str]) -> dict[str, str]:
    """{name: as much of its ends as fits}: of its end alone, if that tells it apart from the others, else of both."""
    found: dict[str, str] = {}
    for head in range(0, LONG - 1, 3):
        found = {name: name if len(name) <= LONG else name[:head] + "…" + name[head + 1 - LONG :] for name in names}
        if len(set(found.values())) == len(found):
            break
    return found


def _title(row: Any, words: Words, name: str) -> str:
    most = "≤ " if row.granularity == "unit" else ""  # what goes with all of a group's units; groups overlap
    shares = [f"{most}{_percent(row.parameters)} {words.parameters}"]
    if row.macs is not None and row.macs == row.macs:
        shares.append(f"{most}{_percent(row.macs)} {words.macs}")
    kind = f" {words.units}" if row.granularity == "unit" else ""
    return f"<b>{plain(name)}</b>{kind}<br><span style='font-size:10px'>{' · '.join(shares)}</span>"


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def _colours(order: pd.DataFrame, table: pd.DataFrame, palette: Palette) -> dict[str, str]:
    """{target: colour}, from kept (blue) over grey to cut (orange) by its mean drop; flat curves are all blue."""
    most = max(float(order["loss"].max()), 5 * tolerated(table))
    stops = [label_rgb(hex_to_rgb(colour)) for colour in (palette.kept, palette.faint, palette.cut)]

    def shade(share: float) -> str:
        first = int(share >= 0.5)
        return str(find_intermediate_color(stops[first], stops[first + 1], 2 * share - first, colortype="rgb"))

    return {row.target: shade(min((row.loss / most) ** 0.5, 1.0)) for row in order.itertuples()}


def _mark(
    figure: go.Figure,
    mine: pd.DataFrame,
    by: str,
    factor: float,
    colour: str,
    palette: Palette,
    point: float | None,
    where: Mapping[str, int] = {},  # noqa: B006
) -> None:
    """An open circle where a recipe stands now."""
    at = mine[(mine[by] - point).abs() < 1e-9] if point is not None else mine[:0]
    if len(at):
        x = at[by] * (100 if by == "sparsity" else 1)
        ring = {"color": palette.panel, "size": 12, "line": {"color": colour, "width": 2.5}}
        figure.add_trace(
            go.Scatter(x=x, y=at["change"] * factor, mode="markers", marker=ring, hoverinfo="skip", showlegend=False),
            **where,
        )


def _line(figure: go.Figure, palette: Palette) -> None:
    """No change."""
    figure.update_yaxes(zerolinecolor=palette.faint, zerolinewidth=1)
