"""A quantization rule made concrete for one weight."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.checks import wrong
from ..core.errors import RecipeError
from ..core.message import say
from ..core.rules import Quantize
from .codes import Codes
from .grid import settled
from .quantizers import registry
from .slices import slices_of


def check_rule(rule: Quantize) -> None:
    """What can be said of a rule for weights without a layer. Raises :class:`RecipeError`."""
    quantizer = registry[rule.quantizer]
    where = f"quantize({', '.join(rule.targets)[:200]})"
    if rule.bits not in quantizer.bits:
        accepted = ", ".join(map(str, quantizer.bits))
        what = say("{name} has bits {accepted}, not {bits}", name=rule.quantizer, accepted=accepted, bits=rule.bits)
        raise wrong(where, what)
    for field, value, listed in (
        ("scheme", rule.scheme, quantizer.schemes),
        ("granularity", rule.granularity, quantizer.granularities),
    ):
        if value not in listed:
            what = say(
                "{field}={value!r} with {name}; accepted: {accepted}",
                field=field, value=value, name=rule.quantizer, accepted=", ".join(listed),
            )  # fmt: skip
            raise wrong(where, what)


def fit_weight(layer: str, kind: str, weight: Tensor, axis: int, rule: Quantize) -> Codes:
    """Codes of a weight that is pruned already, removed units gone; ``axis`` is that of its output channels.

    Raises :class:`RecipeError` for a granularity that the layer does not have and for weights with NaN or infinity.
    """
    if not bool(torch.isfinite(weight).all()):
        raise RecipeError(
            say("{layer}: its weights hold NaN or infinity; accepted for quantization: finite weights", layer=layer)
        )
    slices = slices_of(layer, kind, tuple(weight.shape), axis, rule.granularity, rule.group_size)
    return settled(weight, registry[rule.quantizer]().fit(weight, rule.bits, rule.scheme, slices))
