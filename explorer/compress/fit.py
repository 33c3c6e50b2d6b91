"""A quantization rule made concrete for one weight."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import RecipeError
from ..core.message import say
from ..core.rules import Quantize
from .codes import Codes
from .quantizers import registry
from .slices import slices_of


def check_rule(rule: Quantize) -> None:
    """What can be said of a rule for weights without a layer. Raises :class:`RecipeError`."""
    quantizer = registry[rule.quantizer]
    where = f"quantize({', '.join(rule.targets)[:200]})"
    if rule.bits not in quantizer.bits:
        accepted = ", ".join(map(str, quantizer.bits))
        raise RecipeError(
            say(
                "{where}: {name} has bits {accepted}, not {bits}",
                where=where,
                name=rule.quantizer,
                accepted=accepted,
                bits=rule.bits,
            )
        )
    if rule.scheme not in quantizer.schemes:
        raise RecipeError(
            say(
                "{where}: scheme={scheme} with {name}; accepted: {accepted}",
                where=where, scheme=repr(rule.scheme), name=rule.quantizer, accepted=", ".join(quantizer.schemes),
            )
        )  # fmt: skip
    if rule.granularity not in quantizer.granularities:
        raise RecipeError(
            say(
                "{where}: granularity={granularity} with {name}; accepted: {accepted}",
                where=where, granularity=repr(rule.granularity), name=rule.quantizer, accepted=", ".join(quantizer.granularities),
            )
        )  # fmt: skip


def fit_weight(layer: str, kind: str, weight: Tensor, axis: int, rule: Quantize) -> Codes:
    """Codes of a weight that is pruned already, removed units gone; ``axis`` is that of its output channels.

    Raises :class:`RecipeError` for a granularity that the layer does not have and for weights with NaN or infinity.
    """
    if not bool(torch.isfinite(weight).all()):
        raise RecipeError(
            say("{layer}: its weights hold NaN or infinity; accepted for quantization: finite weights", layer=layer)
        )
    slices = slices_of(layer, kind, tuple(weight.shape), axis, rule.granularity, rule.group_size)
    return registry[rule.quantizer]().fit(weight, rule.bits, rule.scheme, slices)
