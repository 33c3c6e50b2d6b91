"""What the threshold component is told of an activation, and what its two clipping handles mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.compress.calibrate import calibrate, sites
from explorer.compress.errors import activation_losses
from explorer.compress.plan import Plan
from explorer.compress.statistics import BINS
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject

from .. import edits
from ..i18n import _
from ..state import Workspace

SAMPLES = 128
MERGED = 16  # bins of the statistics that one bar shows


def identity(space: Workspace, layer: Layer) -> str:
    """Names what is drawn; events that carry another name are stale."""
    return f"{space.model}/{layer.name}/activations/{space.generation}"


def edit(recipe: Recipe, subject: Subject, layer: Layer, value: Mapping[str, Any]) -> Recipe:
    """The recipe after an event of the handles: {low, high}."""
    low, high = float(value.get("low") or 0.0), float(value.get("high") or 0.0)
    if not low < high:
        return recipe
    return edits.clip(recipe, subject.layers, layer, low, high)


def data(space: Workspace, subject: Subject, layer: Layer, recipe: Recipe, plan: Plan, ack: int) -> dict[str, Any]:
    """Everything that the component draws: the histogram of what the layer's weight multiplies, on train samples.

    Raises :class:`RecipeError` where there are none, :class:`EvaluationError` where they are not finite.
    """
    out: dict[str, Any] = {
        "id": identity(space, layer), "layer": layer.name, "ack": ack, "view": "clip", "mode": "hard", "log": space.log_counts,
        "levels": None, "locked": None, "hint": False, "counts": [0, 0], "q": [0.0, 1.0], "lo": 0.0, "hi": 1.0, "n": 0,
        "value": {"low": 0.0, "high": 1.0}, "text": texts(), "size": {"n": 0, "rows": 1, "bits": 32, "overhead": 0},
    }  # fmt: skip
    why = sites(subject).get(layer.name)
    rule = edits.activation_rule(recipe, subject.layers, layer.name)
    seen = None if why else calibrate(subject, plan, rule.samples if rule else SAMPLES).get(layer.name)
    if seen is None or seen.high <= seen.low:
        return out | {"locked": why or _("What enters this layer is constant, or no sample reaches it.")}
    codes = plan.inputs.get(layer.name)
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    start, stop = low, high
    if codes is not None:
        low, high = (float((code - codes.zero_point) * codes.scale) for code in (codes.low, codes.high))
        out["levels"] = codes.levels()
        if space.live is None:  # a drag is not kept waiting for another pass over the samples
            loss = activation_losses(subject, plan).get(layer.name)
            out["readout"] = {"sqnr": loss.sqnr if loss else None}
    counts = seen.counts.view(-1, MERGED).sum(1).tolist()
    width = (seen.high - seen.low) / (BINS // MERGED)
    before, after = round((seen.low - start) / width), round((stop - seen.high) / width)  # the axis always shows 0
    counts = [0] * before + counts + [0] * after
    first = seen.low - before * width
    out |= {"counts": counts, "lo": first, "hi": first + width * len(counts), "n": int(seen.counts.sum())}
    if rule is not None and rule.clip is not None:
        low, high = rule.clip
    return out | {"value": {"low": low, "high": high}, "bits": codes.bits if codes else None}


def texts() -> dict[str, str]:
    """The component's strings."""
    return {
        "low": _("low"), "high": _("high"), "clipped": _("clipped"), "levels": _("levels"), "error": _("error"), "label": _("Upper clipping bound"),
        "low_label": _("Lower clipping bound"), "zeros": _("zeros left out"), "score": "x", "hint": "", "of": _("of"),
        "factor_label": _("Attenuation factor"),
    }  # fmt: skip
