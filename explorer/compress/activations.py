"""Activation-quantize rules made concrete: which activations are rounded, over which calibrated range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..core.errors import RecipeError
from ..core.message import say
from ..core.rules import ACTIVATION_QUANTIZE, Quantize, Rule
from ..models.subject import Subject
from .calibrate import Cancel, Progress, calibrate, sites
from .observers import registry
from .plan import LayerPlan, Plan
from .ranges import uniform
from .slices import Slices


def with_inputs(
    subject: Subject,
    plan: Plan,
    rules: tuple[Rule, ...],
    holds: Mapping[str, Mapping[str, int]],
    progress: Progress,
    cancel: Cancel,
) -> Plan:
    """``plan`` with the rounding of activations that the rules ask for.

    Layers of a pattern whose input cannot be rounded (embeddings) are passed over; a rule under which no layer's can is a
    :class:`RecipeError`. Raises what :func:`calibrate` raises.
    """
    chosen: dict[str, Quantize] = {}
    for name, kinds in holds.items():
        if ACTIVATION_QUANTIZE in kinds:
            rule = rules[kinds[ACTIVATION_QUANTIZE]]
            assert isinstance(rule, Quantize)
            chosen[name] = rule
    if not chosen:
        return plan
    reasons = sites(subject)
    for rule in set(chosen.values()):
        names = [name for name, one in chosen.items() if one is rule]
        if all(reasons[name] for name in names):
            raise RecipeError(
                say("{layer}: its input cannot be quantized: {reason}", layer=names[0], reason=reasons[names[0]])
            )
    layers = dict(plan.layers)
    for name, rule in chosen.items():
        if reasons[name] is None:
            found = _range(subject, plan, name, rule, progress, cancel)
            if found is not None:
                low, high = (torch.tensor([end], dtype=torch.float32) for end in found)
                inputs = uniform(low, high, rule.bits, rule.scheme, Slices())
                layers[name] = replace(layers.get(name, LayerPlan()), inputs=inputs)
    return replace(plan, layers=layers)


def _range(
    subject: Subject, plan: Plan, name: str, rule: Quantize, progress: Progress, cancel: Cancel
) -> tuple[float, float] | None:
    """The stated or calibrated range; None for a layer that no sample reaches."""
    if rule.clip is not None:
        return rule.clip
    seen = calibrate(subject, plan, rule.samples, progress, cancel).get(name)
    return None if seen is None else registry[rule.quantizer]().range(seen, rule.bits, rule.scheme)
