"""What a gesture means: (recipe, layer, settings, handle) -> recipe. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.core.rules import (
    ACTIVATION_QUANTIZE,
    GATE,
    LAYER_PRUNE,
    PREPARATIONS,
    UNIT_PRUNE,
    WEIGHT_PRUNE,
    WEIGHT_QUANTIZE,
    Prune,
    Quantize,
    Rule,
    pattern,
)
from explorer.core.targets import effective

ALL = "*"
GROUP = 32  # weights that share a scale, unless another number is chosen


@dataclass(frozen=True)
class Settings:
    """What the controls beside the histogram say; the handle adds the threshold."""

    granularity: str = "weight"
    criterion: str = "l1"
    mode: str = "hard"
    scope: str = "layer"
    factor: float = 0.5
    multiple: int = 1


def rule_for(recipe: Recipe, layers: Sequence[Layer], layer: str, kind: str) -> Rule | None:
    """The rule of a kind that holds for a layer, whether or not it is protected."""
    unlocked = Recipe(tuple(rule for rule in recipe.rules if rule.kind != "keep"))
    holds, _ = effective(unlocked.rules, layers)
    index = holds[layer].get(kind)
    return None if index is None else unlocked.rules[index]


def kind_of(granularity: str) -> str:
    """The kind of rule that a granularity makes."""
    return {"unit": UNIT_PRUNE, "layer": LAYER_PRUNE}.get(granularity, WEIGHT_PRUNE)


def _everywhere(settings: Settings) -> bool:
    """Whether a cut means all layers; blocks are always ranked together."""
    return settings.scope == "global" or settings.granularity == "layer"


def prune_rule(recipe: Recipe, layers: Sequence[Layer], layer: str, granularity: str) -> Prune | None:
    """The pruning rule that the chosen granularity shows."""
    rule = rule_for(recipe, layers, layer, kind_of(granularity))
    return rule if isinstance(rule, Prune) else None


def quantize_rule(recipe: Recipe, layers: Sequence[Layer], layer: str) -> Quantize | None:
    """The quantization rule that holds for the layer."""
    rule = rule_for(recipe, layers, layer, WEIGHT_QUANTIZE)
    return rule if isinstance(rule, Quantize) else None


def settings_of(recipe: Recipe, layers: Sequence[Layer], layer: Layer, chosen: Settings) -> Settings:
    """The controls' state for a layer: what its rule says; where it has none, what was chosen last."""
    granularity = chosen.granularity
    if granularity == "unit" and layer.group is None:
        granularity = "weight"
    rule = prune_rule(recipe, layers, layer.name, granularity)
    if rule is None and granularity not in ("unit", "layer"):
        granularity = GATE if granularity == GATE and has_gates(layer) else "weight"
    if granularity == "layer":
        return replace(chosen, granularity=granularity, mode="hard", criterion=rule.criterion if rule else chosen.criterion)
    if rule is None:
        return replace(chosen, granularity=granularity)
    shown = "unit" if granularity == "unit" else rule.granularity
    scope = "global" if rule.targets == (ALL,) else "layer"
    return Settings(shown, rule.criterion, rule.mode, scope, rule.factor if rule.factor is not None else chosen.factor, rule.multiple)


def rounded(value: float, digits: int = 5) -> float:
    """A threshold with as many digits as a hand can set."""
    return float(f"{value:.{digits}g}")


def has_gates(layer: Layer) -> bool:
    """Whether the layer's rows are those of an LSTM's or GRU's gates."""
    return layer.kind in ("lstm", "gru") and layer.name.rpartition(".")[2].startswith(("weight_ih", "weight_hh"))


def cut_gates(recipe: Recipe, layer: Layer, settings: Settings, k: int, gates: int) -> Recipe:
    """Cut the ``k`` weakest of the layer's gates; none clears the cut."""
    if k <= 0:
        return recipe.clear(layer.name, kind=WEIGHT_PRUNE)
    factor = settings.factor if settings.mode == "scale" else None
    mode = "scale" if settings.mode == "scale" else "hard"
    return recipe.prune(layer.name, sparsity=min(k, gates - 1) / gates, criterion=settings.criterion, granularity=GATE, mode=mode, factor=factor)  # type: ignore[arg-type]


def mean_size(scores: Sequence[float]) -> float:
    """What unit scores are divided by in one ranking over all groups: the mean of |score|, or 1."""
    return sum(map(abs, scores)) / len(scores) or 1.0


def cut(recipe: Recipe, layer: Layer, settings: Settings, threshold: float, lowest: float = 0.0) -> Recipe:
    """Set the cut of the layer (or of all) to a threshold on the score; below every score, or at 0 where no score is below 0
    (``lowest``), it clears the cut."""
    everywhere = _everywhere(settings)
    targets = ALL if everywhere else layer.name
    if (threshold < lowest or threshold <= 0 <= lowest) and settings.granularity != "unit":
        return recipe.clear(targets, kind=WEIGHT_PRUNE)
    scale = settings.mode == "scale"
    return recipe.prune(
        targets,
        threshold=threshold,
        criterion=settings.criterion,
        granularity=settings.granularity,
        scope="global" if everywhere else "layer",
        mode=settings.mode,  # type: ignore[arg-type]
        factor=settings.factor if scale else None,
        multiple=settings.multiple if settings.granularity == "unit" else 1,
    )


def clear_cut(recipe: Recipe, layer: Layer, settings: Settings) -> Recipe:
    """No cut of the shown granularity for the layer (or for all)."""
    return recipe.clear(ALL if _everywhere(settings) else layer.name, kind=kind_of(settings.granularity))


def unit_threshold(scores: Sequence[float], k: int, normalized: bool) -> float:
    """A threshold that prunes exactly the ``k`` lowest of the ascending unit scores (ties aside)."""
    low, high = scores[k - 1], scores[min(k, len(scores) - 1)]
    middle = (low + high) / 2
    short = rounded(middle)
    value = short if low <= short < high else middle
    return value / mean_size(scores) if normalized else value


def with_settings(
    recipe: Recipe, layers: Sequence[Layer], layer: Layer, settings: Settings, sparsity: float
) -> Recipe:
    """Carry the layer's cut over to changed controls: the same fraction under the new criterion or mode."""
    targets = ALL if _everywhere(settings) else layer.name
    if pattern(settings.granularity):
        factor = settings.factor if settings.mode == "scale" else None
        mode = settings.mode if settings.mode != "shrink" else "hard"
        return recipe.prune(targets, granularity=settings.granularity, criterion=settings.criterion, mode=mode, factor=factor)  # type: ignore[arg-type]
    old = prune_rule(recipe, layers, layer.name, settings.granularity)
    if old is not None and sparsity <= 0 and settings.scope == "layer" and old.targets == (ALL,):
        return clear_cut(recipe, layer, settings)  # a cut of all layers that takes nothing of this one
    if old is None or sparsity <= 0:
        return recipe
    same = old.criterion == settings.criterion and old.threshold is not None and not pattern(old.granularity)
    same = same and (old.scope == "global") == _everywhere(settings)
    if same:
        threshold = old.threshold or 0.0
        return cut(recipe, layer, settings, threshold, min(threshold, 0.0) if threshold else 0.0)
    everywhere = _everywhere(settings)
    return recipe.prune(
        targets,
        sparsity=min(sparsity, 0.9999),
        criterion=settings.criterion,
        granularity=settings.granularity,
        scope=old.scope if old.targets == (targets,) else "global" if everywhere else "layer",
        mode=settings.mode,  # type: ignore[arg-type]
        factor=settings.factor if settings.mode == "scale" else None,
        multiple=settings.multiple if settings.granularity == "unit" else 1,
    )


def quantize(
    recipe: Recipe,
    layer: Layer,
    scope: str,
    bits: int | None,
    scheme: str,
    granularity: str,
    quantizer: str = "minmax",
    group_size: int = GROUP,
) -> Recipe:
    """Set or clear (bits None) the quantization of the weights of the layer or of all."""
    targets = ALL if scope == "global" else layer.name
    if bits is None:
        return recipe.clear(targets, kind=WEIGHT_QUANTIZE)
    size = group_size if granularity == "group" else None
    return recipe.quantize(
        targets, bits=bits, quantizer=quantizer, scheme=scheme, granularity=granularity, group_size=size  # type: ignore[arg-type]
    )  # fmt: skip


def activation_rule(recipe: Recipe, layers: Sequence[Layer], layer: str) -> Quantize | None:
    """The rule that holds for what the layer's weights multiply."""
    rule = rule_for(recipe, layers, layer, ACTIVATION_QUANTIZE)
    return rule if isinstance(rule, Quantize) else None


def activations(recipe: Recipe, layer: Layer, scope: str, bits: int | None, observer: str) -> Recipe:
    """Set or clear (bits None) the quantization of what the layer's weights, or all weights, multiply; calibrated ranges."""
    targets = ALL if scope == "global" else layer.name
    if bits is None:
        return recipe.clear(targets, kind=ACTIVATION_QUANTIZE)
    return recipe.quantize(targets, bits=bits, quantizer=observer, what="activation")


def clip(recipe: Recipe, layers: Sequence[Layer], layer: Layer, low: float, high: float) -> Recipe:
    """Clip what the layer's weights multiply to [low, high]; 8 bits where none were chosen."""
    rule = activation_rule(recipe, layers, layer.name)
    low, high = min(rounded(low), 0.0), max(rounded(high), 0.0)
    if rule is None:
        return recipe.quantize(layer.name, bits=8, what="activation", clip=(low, high))
    return recipe._with(replace(rule, targets=(layer.name,), clip=(low, high)))


def preparations(recipe: Recipe, layers: Sequence[Layer], layer: str) -> tuple[str, ...]:
    """The steps that prepare the layer for quantization."""
    return tuple(step for step in PREPARATIONS if rule_for(recipe, layers, layer, step) is not None)


def prepare(recipe: Recipe, steps: Sequence[str]) -> Recipe:
    """Exactly these steps, for the whole model: two of the three act between layers."""
    for step in PREPARATIONS:
        recipe = recipe.clear(ALL, kind=step)
        if step in steps:
            recipe = recipe.prepare(step)  # type: ignore[arg-type]
    return recipe


def same_for_all_like(
    recipe: Recipe, layers: Sequence[Layer], layer: Layer, sparsity: Mapping[str, float]
) -> Recipe:
    """Give every layer of the same kind this layer's settings: the same sparsity, units and bits.

    sparsity: {kind of rule: the fraction that this layer's rule of that kind cuts}.
    """
    like = [other for other in layers if other.kind == layer.kind]
    for kind in (UNIT_PRUNE, WEIGHT_PRUNE, WEIGHT_QUANTIZE, ACTIVATION_QUANTIZE):
        rule = rule_for(recipe, layers, layer.name, kind)
        names = [other.name for other in like if kind != UNIT_PRUNE or other.group is not None]
        if rule is None or not names:
            continue
        moved = replace(rule, targets=tuple(names))
        if isinstance(moved, Quantize) and moved.clip is not None:
            moved = replace(moved, clip=None)  # every layer has a range of its own
        if isinstance(moved, Prune):
            moved = replace(moved, scope="layer")
            if not pattern(moved.granularity):
                moved = replace(moved, threshold=None, units=None, sparsity=min(sparsity.get(kind, 0.0), 0.9999))
        recipe = recipe._with(moved)
    return recipe


def toggle_lock(recipe: Recipe, layers: Sequence[Layer], layer: Layer) -> Recipe:
    """Protect the layer, or lift its protection."""
    _, kept = effective(recipe.rules, layers)
    return recipe.clear(layer.name, kind="keep") if layer.name in kept else recipe.keep(layer.name)
