"""Counted bytes, taken apart: weights, indices, scales, codebooks."""

from __future__ import annotations

from ..compress.codes import Codes, Table
from ..compress.plan import Plan
from ..core.explanation import ByteParts
from ..core.report import LayerCount
from ..evaluate.costs import counts, representations
from ..models.subject import Subject


def parts(subject: Subject, plan: Plan) -> tuple[ByteParts, dict[str, ByteParts]]:
    """(the model, {layer: its tensor}) in the representations that ``counts`` finds smallest; the sums are equal.

    Scales and zero points of activations belong to the model, not to a tensor of weights.
    """
    seen = counts(subject, plan)
    layers = {name: layer_parts(one, plan.codes.get(name)) for name, one in seen.layers.items()}
    whole = sum(layers.values(), ByteParts())
    whole += ByteParts(scales=plan.inputs_overhead)
    return whole + ByteParts(rest=seen.bytes - whole.total), layers


def layer_parts(layer: LayerCount, codes: Codes | None) -> ByteParts:
    """The smallest representation of one tensor."""
    rows = layer.shape[0]
    plain = representations(layer.remaining, layer.nonzero, rows, layer.width)
    found = {(form, False): size for form, size in plain.items()}
    if codes is not None:
        options = representations(layer.remaining, layer.nonzero, rows, codes.bits, codes.overhead, codes.codes_zero)
        found |= {(form, True): size for form, size in options.items()}
    (form, coded), size = min(found.items(), key=lambda one: one[1])
    bits, overhead = (codes.bits, codes.overhead) if codes is not None and coded else (layer.width, 0)
    weights = -(-(layer.remaining if form == "dense" else layer.nonzero) * bits // 8)
    table = isinstance(codes, Table) and codes.sparse
    scales, codebooks = (0, overhead) if table else (overhead, 0)
    return ByteParts(weights, size - weights - overhead, scales, codebooks, 0, form)
