"""What the threshold component is told, and what its events mean. Numbers in, numbers out; no widgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.analysis.criteria import registry as criteria
from explorer.analysis.gates import gate_importance
from explorer.analysis.histogram import Histogram, histogram, sorted_blocks, sorted_units
from explorer.compress.plan import Plan
from explorer.compress.view import levels, sqnr
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.core.report import Counts
from explorer.core.rules import GATE, pattern
from explorer.core.targets import effective
from explorer.models.gates import gate_names
from explorer.models.subject import Subject

from .. import edits, units
from ..edits import Settings
from ..i18n import _
from ..state import Workspace


def identity(space: Workspace, layer: Layer, settings: Settings) -> str:
    """Names what is drawn; events that carry another name are stale."""
    return f"{space.model}/{layer.name}/{settings.granularity}/{settings.criterion}/{settings.mode}/{settings.scope}/{space.generation}"


def edit(recipe: Recipe, subject: Subject, layer: Layer, settings: Settings, value: Mapping[str, Any]) -> Recipe:
    """The recipe after an event of the handle: {t: threshold, k: units cut, factor}."""
    from dataclasses import replace

    if settings.mode == "scale":
        settings = replace(settings, factor=edits.rounded(min(max(float(value.get("factor") or 0.5), 0.05), 0.95), 2))
    if settings.granularity == "unit":
        scores, _units = sorted_units(subject, str(layer.group), settings.criterion)
        k = min(int(value.get("k") or 0), len(scores) - 1)
        if k <= 0:
            return edits.clear_cut(recipe, layer, settings)
        return edits.cut(recipe, layer, settings, edits.unit_threshold(scores, k, settings.scope == "global"))
    if settings.granularity == "layer":
        scores, _names = sorted_blocks(subject, settings.criterion, effective(recipe.rules, subject.layers)[1])
        k = min(int(value.get("k") or 0), len(scores))
        return edits.cut(recipe, layer, settings, edits.unit_threshold(scores, k, False)) if k > 0 else edits.clear_cut(recipe, layer, settings)
    if settings.granularity == GATE:
        return edits.cut_gates(recipe, layer, settings, int(value.get("k") or 0), len(gate_names(subject, layer.name)))
    lowest = histogram(subject, layer.name, settings.criterion).quantiles[0]
    return edits.cut(recipe, layer, settings, edits.rounded(float(value["t"])), min(lowest, 0.0))


def threshold_of(recipe: Recipe, subject: Subject, layer: Layer, settings: Settings, plan: Plan) -> tuple[float, int]:
    """Where the handle stands for a recipe: (threshold on the score, units cut)."""
    rule = edits.prune_rule(recipe, subject.layers, layer.name, settings.granularity)
    if settings.granularity == "unit" and layer.group is not None:
        scores, _units = sorted_units(subject, layer.group, settings.criterion)
        if rule is None:
            return 0.0, 0
        if layer.group in plan.kept:
            k = len(scores) - len(plan.kept[layer.group])
        elif rule.threshold is not None:
            mean = edits.mean_size(scores) if rule.scope == "global" else 1.0
            k = min(sum(s <= rule.threshold * mean for s in scores), len(scores) - 1)
        else:
            k = min(round((rule.sparsity or 0) * len(scores)), len(scores) - 1)
        k = k if rule.mode != "hard" or layer.group in plan.kept else 0
        return (scores[k - 1] + scores[min(k, len(scores) - 1)]) / 2 if k else 0.0, k
    if settings.granularity == "layer":
        scores, _names = sorted_blocks(subject, settings.criterion, plan.protected)
        k = min(len(plan.removed), len(scores))
        return (scores[k - 1] + scores[min(k, len(scores) - 1)]) / 2 if k else 0.0, k
    if settings.granularity == GATE:
        gates = len(gate_names(subject, layer.name))
        return 0.0, round((rule.sparsity or 0) * gates) if rule is not None and rule.granularity == GATE else 0
    found: Histogram = histogram(subject, layer.name, settings.criterion)
    if rule is None or pattern(rule.granularity):
        return (0.0 if found.low >= 0 or found.signed else found.low - 1e-6 * (found.high - found.low)), 0  # below every score
    if rule.threshold is not None:
        return rule.threshold, 0
    fraction = plan.cut_fraction(layer.name)
    return found.quantiles[round(fraction * (len(found.quantiles) - 1))], 0


def data(
    space: Workspace, subject: Subject, layer: Layer, settings: Settings, recipe: Recipe, plan: Plan, counts: Counts | None, ack: int
) -> dict[str, Any]:
    """Everything that the component draws, about 6 kB."""
    threshold, k = threshold_of(recipe, subject, layer, settings, plan)
    quantized = plan.codes.get(layer.name)
    ticks = levels(subject, plan, layer.name)
    out: dict[str, Any] = {
        "id": identity(space, layer, settings),
        "layer": layer.name,
        "ack": ack,
        "value": {"t": threshold, "k": k, "factor": settings.factor},
        "mode": settings.mode,
        "log": space.log_counts,
        "levels": ticks,
        "locked": _locked(settings, layer, plan),
        "hint": not space.touched and not recipe.rules,
        "text": texts(settings),
        "size": {
            "n": layer.numel,
            "rows": layer.shape[0],
            "bits": quantized.bits if quantized else layer.bits,
            "full": layer.bits,
            "overhead": quantized.overhead if quantized else 0,
            "zero": quantized is None or quantized.codes_zero,
        },
    }
    if counts is not None:
        mine = counts.layers[layer.name]
        error = sqnr(subject, plan, layer.name)
        out["readout"] = {
            "cut": plan.cut_fraction(layer.name), "bytes": mine.bytes, "sqnr": error, "removed": 1 - mine.remaining / mine.original,
        }  # fmt: skip
        out["layers"] = {
            name: {"sparsity": one.sparsity, "bits": one.bits, "attenuated": one.attenuated / one.original}
            for name, one in counts.layers.items()
        }
    if settings.granularity == "unit" and layer.group is not None:
        scores, order = sorted_units(subject, layer.group, settings.criterion)
        out |= {"view": "units", "scores": list(scores), "units": list(order), "lo": 0.0, "hi": scores[-1], "n": len(scores)}
        kind = units.kind_of(subject, layer.group)
        out["text"] |= {"unit": units.one(kind), "units": units.many(kind)}
        out["levels"] = None
        return out
    if settings.granularity == GATE:
        table = gate_importance(subject, settings.criterion, layers=[layer.name]).sort_values("mean", kind="stable")
        means, gates = table["mean"].tolist(), [gate_name(gate) for gate in table["gate"]]
        out |= {"view": "units", "scores": means, "units": gates, "lo": 0.0, "hi": means[-1], "n": len(means), "levels": None}
        out["text"] |= {"unit": _("gate"), "units": _("gates")}
        return out
    if settings.granularity == "layer":
        scores, names = sorted_blocks(subject, settings.criterion, plan.protected)
        out |= {"view": "units", "scores": list(scores), "units": list(names), "lo": 0.0, "hi": max(scores, default=1.0), "n": len(scores)}
        out |= {"levels": None, "all": True}
        return out
    found = histogram(subject, layer.name, settings.criterion)
    ends = [(1 if end > 0 else -1) * abs(end) ** found.warp for end in (found.low, found.high)]
    out |= {"view": "weights" if found.signed else "scores", "lo": ends[0], "hi": ends[1], "warp": found.warp, "n": found.entries}
    out |= {"counts": list(found.counts), "q": [float(f"{q:.6g}") for q in found.quantiles]}
    if not found.signed and ticks:
        reach = max(abs(ticks[0]), abs(ticks[-1])) or 1.0
        out |= {"levels_lo": -reach, "levels_hi": reach}
    return out


def gate_name(gate: str) -> str:
    """A gate's name on screen."""
    names = {
        "input": _("input gate"), "forget": _("forget gate"), "cell": _("cell gate"), "output": _("output gate"), "reset": _("reset gate"),
        "update": _("update gate"), "new": _("new gate"),
    }  # fmt: skip
    return names.get(gate, gate)


def _locked(settings: Settings, layer: Layer, plan: Plan) -> str | None:
    if settings.granularity == "layer":
        return None
    if layer.name in plan.protected:
        return _("This layer is protected. Unlock it in the strip above (key L) to prune it.")
    if pattern(settings.granularity):
        return _("{pattern} fixes the cut: in every run of inputs the strongest stay.", pattern=settings.granularity)
    return None


def texts(settings: Settings) -> dict[str, str]:
    """The component's strings."""
    blocks = settings.granularity == "layer"
    score = "|w|" if criteria[settings.criterion].signed_axis else _("score")
    return {
        "threshold": _("threshold"), "sparsity": _("cut"), "size": _("layer size"), "approx": _("approximate"), "score": score,
        "factor": _("factor"), "label": _("Pruning threshold"), "factor_label": _("Attenuation factor"), "kept": _("kept"),
        "cut": _("cut"), "unit": _("block") if blocks else _("unit"), "units": _("blocks") if blocks else _("units"), "levels": _("levels"), "of": _("of"), "error": _("error"),
        "hint": _("drag the orange handle"), "attenuated": _("attenuated"), "removed": _("gone with units"), "locked": _("locked"),
    }  # fmt: skip
