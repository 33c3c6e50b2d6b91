"""What training begins with: the plan's weights in a module of its own, what is held, how it is rounded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..compress.build import build
from ..compress.codes import Codes
from ..compress.plan import Plan
from ..compress.quantizers import registry as quantizers
from ..compress.resolve import resolve
from ..core.recipe import Recipe
from ..core.rules import ACTIVATION_QUANTIZE, EQUALIZE, FOLD, WEIGHT_PRUNE, WEIGHT_QUANTIZE, Quantize, Rule
from ..core.targets import effective
from ..models.subject import Subject
from .hold import masks_of
from .rounding import Codebook, Rounding, StraightThrough


@dataclass(frozen=True, eq=False)
class Start:
    """module: new, in the shapes that remain, weights masked and not rounded. masks, roundings: for :class:`Hold`. inputs: what rounds
    activations, {layer: module}. rules: {layer: its weight-quantize rule}. folded: norms were folded, so their statistics must stay."""

    plan: Plan
    module: nn.Module
    masks: dict[str, Tensor]
    roundings: dict[str, Rounding]
    inputs: dict[str, nn.Module]
    folded: bool


def start(subject: Subject, recipe: Recipe) -> Start:
    """Resolve and build; the subject is left as it was. Raises what :func:`resolve` raises."""
    plan = resolve(subject, recipe)
    bare = {name: replace(one, codes=None, inputs=None) for name, one in plan.layers.items()}
    module = build(subject, replace(plan, layers={name: one for name, one in bare.items() if one.changes_weight}))
    parameters = dict(module.named_parameters(remove_duplicate=False))
    holds, _ = effective(recipe.rules, subject.layers, subject.name)
    folded = any(FOLD in kinds or EQUALIZE in kinds for kinds in holds.values())
    rules = rules_of(subject, recipe, plan)
    roundings = {name: _rounding(rule, plan.codes[name]) for name, rule in rules.items() if name in parameters}
    return Start(plan, module, masks_of(parameters, plan), roundings, plan.roundings(), folded)


def rules_of(subject: Subject, recipe: Recipe, plan: Plan) -> dict[str, Quantize]:
    """{layer: the rule by which its weight is rounded}."""
    holds, _ = effective(recipe.rules, subject.layers, subject.name)
    found = {name: recipe.rules[holds[name][WEIGHT_QUANTIZE]] for name in plan.codes if WEIGHT_QUANTIZE in holds[name]}
    return {name: rule for name, rule in found.items() if isinstance(rule, Quantize)}


def _rounding(rule: Quantize, codes: Codes) -> Rounding:
    quantizer, slices = quantizers[rule.quantizer](), codes.slices

    def fit(weight: Tensor) -> Codes:
        # units may have gone on the way; whether it is finite is seen by the loss
        mine = slices if slices.axis is None else replace(slices, shape=tuple(weight.shape))
        return quantizer.fit(weight, rule.bits, rule.scheme, mine)

    if codes.scheme == "codebook":
        return Codebook(None, fit)
    return StraightThrough(None, fit, cheap=not quantizer.searches)


def carried(subject: Subject, recipe: Recipe, plan: Plan, module: nn.Module) -> Recipe:
    """What a recipe still says of the module that was trained with it: its zeros are pruned, its levels are those of its rules.

    plan: of the recipe, or of the part of it with which training began. Applied to the trained module the result changes no bit: zeros are named by a
    threshold of zero, rounded weights lie on their grids (so a search for a range is over), and ranges of activations are stated.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    holds, _ = effective(recipe.rules, subject.layers, subject.name)
    pruned = [name for name, kinds in holds.items() if WEIGHT_PRUNE in kinds and name in parameters]
    zeros = [name for name in pruned if int(torch.count_nonzero(parameters[name])) < parameters[name].numel()]
    out = Recipe(name=recipe.name)
    if zeros:
        out = out.prune(zeros, threshold=0.0)
    grouped: dict[Rule, list[str]] = {}
    for name, rule in rules_of(subject, recipe, plan).items():
        if name in parameters:
            over = rule.quantizer in ("percentile", "mse", "entropy")
            grouped.setdefault(
                replace(rule, targets=("*",), quantizer="minmax" if over else rule.quantizer), []
            ).append(name)
    for name, codes in plan.inputs.items():
        was = recipe.rules[holds[name][ACTIVATION_QUANTIZE]]
        if name in parameters and isinstance(was, Quantize):
            low, high = ((end - int(codes.zero_point)) * float(codes.scale) for end in (codes.low, codes.high))
            stated = replace(was, targets=("*",), clip=was.clip or (min(low, 0.0), max(high, 0.0)))
            grouped.setdefault(stated, []).append(name)
    made = [replace(rule, targets=tuple(names)) for rule, names in grouped.items()]
    return replace(out, rules=(*out.rules, *made))
