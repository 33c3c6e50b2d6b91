"""What a file of integers means, as a recipe: its simulation is the evaluation of exactly that."""

from __future__ import annotations

from math import prod

from ...compress.calibrate import sites
from ...core.layers import Layer
from ...core.recipe import Recipe
from ...core.rules import ACTIVATION_QUANTIZE, WEIGHT_QUANTIZE
from ...core.targets import effective
from ...models.subject import Subject

ROUNDED = frozenset({"conv", "linear", "lstm", "attention"})  # whose kernels of ONNX Runtime multiply integers
WIDE = 64  # entries of a row from which a scale a row costs no more than 1/16 of its codes
GROUP = 32  # weights that share a scale at 4 bits


def int8_recipe(subject: Subject, recipe: Recipe) -> Recipe:
    """The recipe plus 8-bit weights and activations wherever no quantize rule of that kind holds.

    Weights: symmetric, one scale an output channel, or one a tensor where rows have fewer than 64 entries.
    Activations: affine, per tensor, calibrated on the train split; those of convolutions, linear layers, LSTMs and
    attention, whose kernels can multiply integers. Protected layers stay as they are.
    """
    free = _free(subject, recipe, WEIGHT_QUANTIZE)
    wide = [layer.name for layer in free if prod(layer.shape[1:]) >= WIDE]
    narrow = [layer.name for layer in free if prod(layer.shape[1:]) < WIDE]
    if wide:
        recipe = recipe.quantize(wide, bits=8, granularity="channel")
    if narrow:
        recipe = recipe.quantize(narrow, bits=8)
    reasons = sites(subject)
    active = [
        layer.name
        for layer in _free(subject, recipe, ACTIVATION_QUANTIZE)
        if layer.kind in ROUNDED and reasons[layer.name] is None
    ]
    return recipe.quantize(active, bits=8, what="activation") if active else recipe


def int4_recipe(subject: Subject, recipe: Recipe) -> Recipe:
    """The recipe plus 4-bit weights wherever no quantize rule for weights holds: symmetric, a scale a group of 32.

    Rows that are not longer than a group have one scale each. Activations are left as the recipe has them.
    """
    free = _free(subject, recipe, WEIGHT_QUANTIZE)
    wide = [layer.name for layer in free if prod(layer.shape[1:]) > GROUP]
    narrow = [layer.name for layer in free if prod(layer.shape[1:]) <= GROUP]
    if wide:
        recipe = recipe.quantize(wide, bits=4, granularity="group", group_size=GROUP)
    return recipe.quantize(narrow, bits=4, granularity="channel") if narrow else recipe


def _free(subject: Subject, recipe: Recipe, kind: str) -> list[Layer]:
    """Layers without a rule of a kind, and without protection."""
    holds, protected = effective(recipe.rules, subject.layers, subject.name)
    return [layer for layer in subject.layers if kind not in holds[layer.name] and layer.name not in protected]


def stated_activations(subject: Subject, recipe: Recipe) -> frozenset[str]:
    """Layers whose activations the recipe itself rounds."""
    holds, _ = effective(recipe.rules, subject.layers, subject.name)
    return frozenset(name for name, kinds in holds.items() if ACTIVATION_QUANTIZE in kinds)
