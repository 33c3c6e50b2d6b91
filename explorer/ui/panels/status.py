"""How the last figures were computed, in a few words at the end of the line under the cards."""

from __future__ import annotations

from html import escape

from explorer.core.report import Report

from .. import format as fmt
from ..i18n import _, translated


def tier_name(tier: str) -> str:
    """How chunks are run, in the viewer's language."""
    return {"graph": _("replays the graph"), "order of calls": _("replays by the order of calls")}.get(
        tier, _("runs in full")
    )


def line(report: Report) -> str:
    """Tier, dtype and time, and whether figures hold for one size of batches alone; layout, batch, memory and the reason for a lower tier when one points at it."""
    machine = report.machine
    if not machine:
        return ""
    pieces = [tier_name(machine["tier"]), report.precision]
    seconds = report.timing.get("prefix", 0.0) + report.timing.get("suffix", 0.0)
    if machine["samples"]:
        pieces.append(_("{n} samples in {ms} ms", n=f"{machine['samples']:,}", ms=f"{1000 * seconds:.0f}"))
    if report.timing.get("queue", 0.0) > 0.005:
        pieces.append(_("waited {ms} ms", ms=f"{1000 * report.timing['queue']:.0f}"))
    if machine["mixes"]:
        pieces.append(_("a sample's answer depends on the others of its batch of {n}", n=machine["batch"]))
    kept = _(
        "{used} of {budget} kept for the next move",
        used=fmt.size(machine["cache_bytes"]),
        budget=fmt.size(machine["cache_budget"]),
    )
    about = [kept, _("batches of {n}, {layout}", n=machine["batch"], layout=machine["layout"])]
    if machine["graphs"]:
        about.append(_("{n} CUDA graphs", n=machine["graphs"]))
    about += [translated(reason) for reason in (machine["reason"], machine["no_graphs"]) if reason]
    text, title = " · ".join(pieces), " · ".join(about)
    return f'<span class="x-status" title="{escape(title)}">{escape(text)}</span>'
