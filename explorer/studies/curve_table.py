"""The table of a scan: a row a layer and step, and which rows are one curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..evaluate.sweep import Sweep, Target

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Iterable[tuple[Any, ...]], sweep: Sweep, metric: str, lower: bool, **about: Any) -> pd.DataFrame:
    """rows as :func:`explorer.sensitivity` describes them; ``attrs`` say how they were made. lower: a lower metric is better."""
    import pandas as pd

    names = [
        "layer",
        sweep.by,
        "metric",
        "low",
        "high",
        "n",
        "change",
        "change_low",
        "change_high",
        "group",
        "granularity",
        "kind",
    ]
    table = pd.DataFrame(rows, columns=[*names, "parameters", "macs"])
    table.attrs = {**about, "sweep": sweep, "metric": metric, "lower_is_better": lower}
    return table


def curve_names(table: pd.DataFrame) -> pd.Series:
    """Of each row the name of its curve: its group, of which all layers have one curve, or its layer."""
    units = table["group"] != ""
    names = table["group"].where(units, table["layer"])
    clash = units & names.isin(table.loc[~units, "layer"])  # a parameter of a module's own names both
    return names.where(~clash, names + " (unit)")


def targets_in(table: pd.DataFrame) -> dict[str, tuple[Target, pd.DataFrame]]:
    """{curve: (what it changes, its rows, a row a step)}, in the table's order."""
    by, out = table.attrs["sweep"].by, {}
    for name, rows in table.groupby(curve_names(table), sort=False):
        first, layers = rows.iloc[0], tuple(dict.fromkeys(rows["layer"]))
        target = Target(str(name), layers, str(first["kind"]), str(first["granularity"]), str(first["group"]))
        out[str(name)] = target, rows.drop_duplicates(by)
    return out


def layer_row(target: Target, layer: str, point: float, found: Any, shares: Mapping[Target, Any]) -> tuple[Any, ...]:
    """One row: an estimate of a target at a step, for one of its layers."""
    value, change = found.value, found.change
    return (
        layer, point, value.value, value.low, value.high, found.n, change.value, change.low, change.high,
        target.group, target.granularity, target.kind, *shares[target],
    )  # fmt: skip
