"""Recipe + Subject -> Plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..analysis.bins import Bins
from ..analysis.criteria import registry as criteria
from ..analysis.importance import weight_scores
from ..analysis.look import Look
from ..core.errors import Cancelled, RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.rules import GATE, LAYER_PRUNE, UNIT_PRUNE, WEIGHT_PRUNE, WEIGHT_QUANTIZE, Prune, Quantize, block, pattern
from ..core.targets import effective
from ..models.blocks import Block
from ..models.gates import gates_of
from ..models.removal import alive, gone
from ..models.subject import Subject, checked
from .activations import with_inputs
from .bias import corrected
from .bitmask import BitMask, large, packed_masks
from .calibrate import Cancel, Progress
from .codes import Codes
from .depth import blocks_of, blocks_that_go
from .fit import check_rule, fit_weight
from .masks import above, block_sums, by_pattern, by_sparsity, by_threshold, compact, expand_blocks, spread
from .observers import registry as observers
from .plan import LayerPlan, Plan
from .prepare import prepared
from .units import groups_of, kept_units, soft_gains


def resolve(subject: Subject, recipe: Recipe, *, progress: Progress = None, cancel: Cancel = None) -> Plan:
    """Masks, kept units, scales and zero points of a recipe for a subject.

    Blocks and units are removed first, then weights are masked among the entries that remain, then scaled or shrunk, then
    quantized. Raises :class:`RecipeError` (unknown target, criterion, quantizer) or :class:`UnsupportedError`
    (units that cannot be removed exactly). The subject is not touched. Cached by content.

    ``progress(done, total)`` is told, and ``cancel()`` asked, in layers while ranges and levels of weights are searched, then in samples
    where activations are quantized or biases corrected, which runs the model on the train split. Raises :class:`Cancelled`, and
    :class:`EvaluationError` where such a run fails.
    """
    checked(subject)
    known(recipe)
    with subject.steady():  # scores and weights of hundreds of layers are looked up by it
        key = ("plan", subject.version, recipe.rules, criteria.generation)
        return subject.memo.get(key, lambda: _resolve(subject, recipe, progress, cancel))


def known(recipe: object) -> Recipe:
    """``recipe``, if it is one. Raises :class:`RecipeError`."""
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            say(
                "recipe is {type}; accepted: an explorer.Recipe (Recipe.from_json reads a file's text)",
                type=type(recipe).__name__,
            )
        )
    return recipe


def _resolve(subject: Subject, recipe: Recipe, progress: Progress, cancel: Cancel) -> Plan:
    holds, protected = effective(recipe.rules, subject.layers, subject.name)
    for rule in recipe.rules:  # an unknown name is an error even where a later rule hides it
        if isinstance(rule, Prune):
            criteria[rule.criterion]
        elif isinstance(rule, Quantize) and rule.what == "weight":
            check_rule(rule)
        elif isinstance(rule, Quantize):
            observers[rule.quantizer]
    shapes = {layer.name: layer.shape for layer in subject.layers}
    removed = _blocks(subject, recipe, holds, protected)
    whole = {name for branch in removed for name in branch.group.members}
    holds = {
        name: {} if name in whole else kinds for name, kinds in holds.items()
    }  # nothing else happens to what is gone
    kept, dropped, gains = _units(subject, recipe, holds, protected, shapes)
    units = dict(dropped)
    for branch in removed:
        dropped |= branch.dropped(units)
    living = {n: alive(shapes[n], dims).to(subject.weight(n).device) for n, dims in dropped.items() if n in shapes}
    masks: dict[str, Tensor | BitMask] = {}
    shrinks: dict[str, float] = {}
    _weights(subject, recipe, holds, living, masks, shrinks, gains)

    def pruned(name: str) -> LayerPlan:
        mask = masks.get(name, living.get(name))
        return LayerPlan(mask, gains.get(name), shrinks.get(name), factors.get(name), dropped=dropped.get(name, {}))

    factors: dict[str, Tensor] = {}
    factors, tensors = prepared(subject, holds, lambda name: pruned(name).before_quantization(subject.weight(name)))
    layers = {}
    coded = [name for name, kinds in holds.items() if WEIGHT_QUANTIZE in kinds]
    changed = {*masks, *living, *gains, *shrinks, *factors, *coded}
    for name in (name for name in shapes if name in changed):
        layers[name] = bare = pruned(name)
        if WEIGHT_QUANTIZE in holds[name]:
            rule = recipe.rules[holds[name][WEIGHT_QUANTIZE]]
            assert isinstance(rule, Quantize)
            fitted = coded.index(name)
            if cancel is not None and cancel():
                raise Cancelled(
                    say("{name}: cancelled after {n} of {total} layers", name=subject.name, n=fitted, total=len(coded))
                )
            layers[name] = replace(bare, codes=_codes(subject, name, rule, bare))
            if progress is not None:
                progress(fitted + 1, len(coded))
    gone_whole = tuple(branch.group.name for branch in removed)
    bare_plan = Plan(layers, kept, dropped, protected, gone_whole, tensors)
    plan = corrected(subject, bare_plan, holds, progress, cancel)
    return with_inputs(subject, plan, recipe.rules, holds, progress, cancel)


def _blocks(
    subject: Subject, recipe: Recipe, holds: Mapping[str, Mapping[str, int]], protected: frozenset[str]
) -> list[Block]:
    """The blocks that go by all layer-prune rules, in forward order."""
    if not any(LAYER_PRUNE in kinds for kinds in holds.values()):
        return []
    gone: set[str] = set()
    for index, blocks in blocks_of(subject, recipe.rules, holds, protected).items():
        rule = recipe.rules[index]
        assert isinstance(rule, Prune)
        gone |= {block.group.name for block in blocks_that_go(subject, rule, blocks)}
    return [block for name, block in subject.depth.blocks.items() if name in gone]


def _units(
    subject: Subject, recipe: Recipe, holds: Mapping[str, Mapping[str, int]], protected: frozenset[str], shapes: Any
) -> tuple[dict[str, Tensor], dict[str, dict[int, Tensor]], dict[str, Tensor]]:
    """(kept units, dropped entries, soft gains) of all unit-prune rules."""
    kept: dict[str, Tensor] = {}
    hard: list[Any] = []
    gains: dict[str, Tensor] = {}
    if any(UNIT_PRUNE in kinds for kinds in holds.values()):
        for index, cuts in groups_of(subject, recipe.rules, holds, protected).items():
            rule = recipe.rules[index]
            assert isinstance(rule, Prune)
            stays = kept_units(subject, rule, cuts)
            pairs = [(cut, stays[cut.group.name]) for cut in cuts if len(stays[cut.group.name]) < cut.group.units]
            if rule.mode == "scale":
                for name, gain in soft_gains(pairs, rule.factor or 0.0, shapes).items():
                    gain = gain.to(subject.weight(name).device)
                    gains[name] = gains[name] * gain if name in gains else gain
            else:
                hard += pairs
                kept.update({cut.group.name: stay for cut, stay in pairs})
    return kept, gone(hard), gains


def _weights(
    subject: Subject,
    recipe: Recipe,
    holds: Mapping[str, Mapping[str, int]],
    living: Mapping[str, Tensor],
    masks: dict[str, Tensor | BitMask],
    shrinks: dict[str, float],
    gains: dict[str, Tensor],
) -> None:
    """Fill masks, shrink thresholds and gains of all weight-prune rules."""
    by_rule: dict[int, list[str]] = {}
    for name, kinds in holds.items():
        if WEIGHT_PRUNE in kinds:
            by_rule.setdefault(kinds[WEIGHT_PRUNE], []).append(name)
    for index, names in by_rule.items():
        rule = recipe.rules[index]
        assert isinstance(rule, Prune)
        if not living.keys() & set(names) and large(subject, rule, names):
            masks |= packed_masks(subject, rule, names)
            continue
        scores = weight_scores(subject, criteria[rule.criterion](), names, Look())
        stays = cut(
            subject, rule, scores, {name: living[name].to(scores[name].device) for name in names if name in living}
        )
        cuts = _thresholds(rule, scores, stays, living)
        for name in names:
            mask, score = stays[name], scores[name]
            if rule.mode == "scale":
                soft = score.new_ones(score.shape).masked_fill_(~mask, rule.factor or 0.0)
                gains[name] = gains[name] * soft if name in gains else soft
                continue
            masks[name] = mask & living[name].to(mask.device) if name in living else mask
            if rule.mode == "shrink":
                shrinks[name] = cuts[name]


def _thresholds(
    rule: Prune, scores: Mapping[str, Tensor], stays: Mapping[str, Tensor], living: Mapping[str, Tensor]
) -> dict[str, float]:
    """{layer: threshold of shrinking}: the highest score cut among the entries that remain; one for a global scope."""
    if rule.mode != "shrink":
        return {}
    if rule.threshold is not None:
        return dict.fromkeys(scores, max(rule.threshold, 0.0))
    out = {}
    for name, score in scores.items():
        below = ~stays[name] & living[name].to(score.device) if name in living else ~stays[name]
        out[name] = float(score[below].max()) if below.any() else 0.0
    return dict.fromkeys(out, max(out.values())) if rule.scope == "global" else out


def cut(subject: Subject, rule: Prune, scores: Mapping[str, Tensor], living: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{layer: mask} of one rule over the layers that it holds for."""
    names = list(scores)
    fixed, shape = pattern(rule.granularity), block(rule.granularity)
    gates = {name: gates_of(subject, name) for name in names} if rule.granularity == GATE else {}
    if fixed or shape or gates:  # runs and blocks lie in the tensor that remains, which is what gets stored
        whole = {name: compact(scores[name], living[name]) if name in living else scores[name] for name in names}
        if fixed:
            found = {name: by_pattern(whole[name], *fixed) for name in names}
        else:
            shapes = {name: shape or (len(whole[name]) // gates[name], whole[name][0].numel()) for name in names}
            sums = {name: block_sums(whole[name], *shapes[name]) for name in names}
            if gates:  # gates differ in size between layers
                sums = {name: sums[name] / (shapes[name][0] * shapes[name][1]) for name in names}
            stays = _ranked(rule, sums, {})
            found = {name: expand_blocks(stays[name], *shapes[name], whole[name].shape) for name in names}
        return {name: spread(found[name], living[name]) if name in living else found[name] for name in names}
    if rule.threshold is None and (rule.scope == "layer" or len(names) == 1) and not living:
        return {name: _lowest_go(subject, rule, name, scores[name]) for name in names}
    return _ranked(rule, scores, living)


def _lowest_go(subject: Subject, rule: Prune, name: str, scores: Tensor) -> Tensor:
    """Mask of one layer by its sparsity: a comparison with the k-th score, where ties leave no choice."""
    k = round((rule.sparsity or 0.0) * scores.numel())
    if 0 < k < scores.numel() and scores.dtype == torch.float32:
        bins = subject.memo.get(("bins", subject.version, criteria[rule.criterion]().key, name), lambda: Bins(scores))
        found = bins.cut(k, scores)
        if found is not None:
            return above(scores, found)
    return by_sparsity([scores], [None], rule.sparsity or 0.0)[0]


def _ranked(rule: Prune, ranked: Mapping[str, Tensor], living: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{layer: mask} by the rule's threshold or sparsity, over entries or over blocks."""
    names = list(ranked)
    lives = {name: living.get(name) for name in names}
    if rule.threshold is not None:
        return {name: by_threshold(ranked[name], lives[name], rule.threshold) for name in names}
    if rule.scope == "global":
        found = by_sparsity([ranked[n] for n in names], [lives[n] for n in names], rule.sparsity or 0.0)
        return dict(zip(names, found, strict=True))
    return {name: by_sparsity([ranked[name]], [lives[name]], rule.sparsity or 0.0)[0] for name in names}


def _codes(subject: Subject, name: str, rule: Quantize, bare: LayerPlan) -> Codes:
    """Rounding of the pruned weight as it remains. Channels are axis 0; axis 1 for transposed convolutions."""
    kind = subject.layer(name).kind
    axis = 1 if kind == "conv_transpose" else 0

    def fit() -> Codes:
        weight = bare.remaining(bare.before_quantization(subject.weight(name)))
        return fit_weight(name, kind, weight, axis, rule)

    # kept by layer: where one rule holds for all, a drag of one layer's mask must not search the ranges of the others again
    return subject.memo.get(("codes", subject.version, name, bare.digest, replace(rule, targets=("*",))), fit)
