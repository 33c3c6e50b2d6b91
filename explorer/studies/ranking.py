"""Which curves of a sensitivity table stay up longest, and which of their points say that less is more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .curve_table import curve_names

if TYPE_CHECKING:
    import pandas as pd

TOLERATED = 0.01  # of a fraction such as accuracy: a point; of another metric, that part of the unchanged model's


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a row a curve and step: a group once, with ``target`` (group or layer) and ``drop`` (positive is worse)."""
    found = table.assign(target=curve_names(table))
    found = found.drop_duplicates(["target", table.attrs["sweep"].by]).reset_index(drop=True)
    found["drop"] = found["change"] if table.attrs["lower_is_better"] else -found["change"]
    return found


def tolerated(table: pd.DataFrame) -> float:
    """The drop up to which a curve counts as flat."""
    start = float((table["metric"] - table["change"]).abs().median())
    return TOLERATED if start <= 1 else TOLERATED * start


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """A row a curve, the most robust first.

    target, kind, granularity; loss: its mean drop over the steps (none below zero), by which it is ranked; best: the last step up to which the
    drop stays tolerated (a hundredth), None where the first one already exceeds it; n: samples of the point that saw fewest;
    parameters, macs: its shares.
    """
    import pandas as pd

    by, limit, rows = table.attrs["sweep"].by, tolerated(table), []
    for target, mine in curves(table).groupby("target", sort=False):
        best = None
        for point, drop in zip(mine[by], mine["drop"], strict=True):
            if drop > limit:
                break
            best = point
        first = mine.iloc[0]
        loss = float(mine["drop"].clip(lower=0).mean())
        n = int(mine["n"].min())
        rows.append((target, first["kind"], first["granularity"], loss, best, n, first["parameters"], first["macs"]))
    found = pd.DataFrame(rows, columns=["target", "kind", "granularity", "loss", "best", "n", "parameters", "macs"])
    return found.sort_values("loss", kind="stable", ignore_index=True)


def gains(table: pd.DataFrame) -> tuple[int, int]:
    """(points at which the metric got better, of these those whose interval holds no zero): the rest is within noise."""
    found = curves(table)
    better = found[found["drop"] < 0]
    clear = (better["change_low"] > 0) | (better["change_high"] < 0)  # an interval that is None compares as neither
    return len(better), int(clear.sum())
