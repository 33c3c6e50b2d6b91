"""What the compressed model consists of, counted: entries, non-zeros, bytes of each representation, MACs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..analysis.histogram import LARGE
from ..analysis.words import layer_tally
from ..compress.apply import effective_weights
from ..compress.masks import count_nonzero
from ..compress.plan import LayerPlan, Plan
from ..core.layers import Layer
from ..core.report import Counts, LayerCount
from ..models.removal import remaining_shape, select
from ..models.stored import stored_bytes, stored_dtype
from ..models.subject import Subject
from .macs import Macs, count

INDEX = 4  # bytes of a CSR index
FORMS = ("dense", "sparse", "quantized", "smallest")
RECORD = 600  # bytes that the count of a layer takes in memory


def representations(
    numel: int, nonzero: int, rows: int, bits: int = 32, overhead: int = 0, codes_zero: bool = True
) -> dict[str, int]:
    """Bytes of a tensor in each representation.

    dense: every value; there is none where zeros occur and have no code. bitmap: one bit an entry and the non-zero values.
    csr: a column index (int32) a non-zero value and a row pointer a row. Values of ``bits`` are packed and
    ``overhead`` (scales, zero points, codebooks) is added.
    """
    packed = -(-nonzero * bits // 8)
    found = {
        "dense": -(-numel * bits // 8) + overhead,
        "bitmap": -(-numel // 8) + packed + overhead,
        "csr": nonzero * INDEX + (rows + 1) * INDEX + packed + overhead,
    }
    if not codes_zero and nonzero < numel:
        del found["dense"]
    return found


def counts(subject: Subject, plan: Plan) -> Counts:
    """Everything that can be counted about a plan; cached by content."""
    with subject.steady():
        return subject.memo.get(("counts", subject.version, plan.digest), lambda: _counts(subject, plan), RECORD * len(subject.layers))


def _nonzero(subject: Subject, name: str, plan: LayerPlan | None, weights: Mapping[str, Tensor], dense: bool) -> int:
    """dense: whether the original has no zeros, so that a mask tells."""
    if plan is None:
        return nonzero_of(subject, name)
    if dense and plan.only_mask is not None:
        return count_nonzero(plan.only_mask)
    return plan.only_bits.nonzero(subject.weight(name)) if plan.only_bits is not None else count_nonzero(weights[name])


def nonzero_of(subject: Subject, name: str) -> int:
    """Entries of a layer's weight that are not zero; of a large one from its tally, which also draws its histogram."""
    weight = subject.weight(name)
    counted = layer_tally(subject, name) if weight.numel() >= LARGE else None
    return counted.total - counted.zeros if counted is not None else count_nonzero(weight)


def _attenuated(plan: LayerPlan | None, weights: Mapping[str, Tensor], name: str) -> int:
    if plan is None or (plan.gain is None and plan.shrink is None):
        return 0
    if plan.shrink is not None:
        return count_nonzero(weights[name]) if plan.shrink > 0 else 0
    assert plan.gain is not None
    return int(((plan.gain < 1) & (weights[name] != 0)).sum())  # a factor of 0 makes zeros, and those are sparsity


class _Original(NamedTuple):
    """The counts of all layers as they are, of which a plan changes few: {layer: count}, {layer: {form: bytes}}, and their sums."""

    layers: Mapping[str, LayerCount]
    sizes: Mapping[str, Mapping[str, int]]
    total: Mapping[str, int]
    entries: int
    nonzero: int
    dtypes: tuple[str, ...]


def _original(subject: Subject) -> _Original:
    found = {layer.name: _layer(subject, layer, None, layer.shape, {}) for layer in subject.layers}
    layers, sizes = {name: one for name, (one, _) in found.items()}, {name: one for name, (_, one) in found.items()}
    total = {form: sum(one[form] for one in sizes.values()) for form in FORMS}
    nonzero = sum(one.nonzero for one in layers.values())
    return _Original(layers, sizes, total, sum(one.remaining for one in layers.values()), nonzero, _dtypes(subject))


def _counts(subject: Subject, plan: Plan) -> Counts:
    weights = effective_weights(subject, plan)
    original = subject.memo.get(("layer counts", subject.version), lambda: _original(subject))
    layers, total = dict(original.layers), dict(original.total)
    parameters, nonzero = original.entries, original.nonzero
    for name in layers.keys() & {*plan.layers, *plan.dropped}:
        layer, mine = original.layers[name], plan.layers.get(name)
        shape = remaining_shape(layer.shape, plan.dropped.get(name, {}))
        key: Any = ("layer count", subject.version, name, mine.digest if mine else "", shape)
        counted = partial(_layer, subject, subject.layer(name), mine, shape, weights, layer.nonzero == layer.original)
        layers[name], sizes = subject.memo.get(key, counted, RECORD)
        parameters += layers[name].remaining - layer.remaining
        nonzero += layers[name].nonzero - layer.nonzero
        for form, size in sizes.items():
            total[form] += size - original.sizes[name][form]
    key = ("other counts", subject.version, plan.digest if plan.dropped or plan.tensors else "")
    others, others_nonzero, beside = subject.memo.get(key, lambda: _others(subject, plan, set(layers)))
    for form in total:
        total[form] += beside
    for form in ("quantized", "smallest"):  # scales and zero points of activations lie in the file, too
        total[form] += plan.inputs_overhead
    macs = count(subject, plan.dropped)
    return Counts(
        layers,
        parameters=parameters + others,
        nonzero=nonzero + others_nonzero,
        sizes=total,
        bytes=total["smallest"],
        macs=macs.total,
        macs_if_zeros_skipped=_skipping(subject, macs, layers),
        macs_reason=macs.reason,
        dtypes=original.dtypes,
    )


def _layer(
    subject: Subject, layer: Layer, mine: LayerPlan | None, shape: tuple[int, ...], weights: Mapping[str, Tensor], dense: bool = False
) -> tuple[LayerCount, dict[str, int]]:
    """One layer, and its bytes by representation."""
    numel = math.prod(shape)
    nonzero = _nonzero(subject, layer.name, mine, weights, dense)
    codes = mine.codes if mine else None
    width = _width(subject, layer, mine)
    bits, overhead = (codes.bits, codes.overhead) if codes else (width, 0)
    plain = representations(numel, nonzero, shape[0], width)
    coded = representations(numel, nonzero, shape[0], bits, overhead, codes.codes_zero) if codes else plain
    smallest = min(*plain.values(), *coded.values())
    sizes = {
        "dense": plain["dense"],
        "sparse": min(plain["bitmap"], plain["csr"]),
        "quantized": coded.get("dense", min(coded.values())),
        "smallest": smallest,
    }
    attenuated = _attenuated(mine, weights, layer.name)
    found = LayerCount(layer.name, layer.kind, shape, layer.numel, numel, nonzero, attenuated, bits, smallest, width)
    return found, sizes


def _width(subject: Subject, layer: Layer, mine: LayerPlan | None) -> int:
    """Bits of a value as a file without codes would hold it."""
    changed = mine is not None and mine.moves_values
    return 8 * stored_dtype(subject.module, layer.name, subject.weight(layer.name), changed).itemsize


def _dtypes(subject: Subject) -> tuple[str, ...]:
    weights: dict[str, int] = {}
    for layer in subject.layers:
        weights[layer.dtype] = weights.get(layer.dtype, 0) + layer.numel
    return tuple(sorted(weights, key=lambda name: -weights[name])) or ("fp32",)


def _others(subject: Subject, plan: Plan, layers: set[str]) -> tuple[int, int, int]:
    """Entries of parameters that are no layers, those not zero, and bytes of these and of buffers; after removal."""
    numel = nonzero = size = 0
    for name, parameter in subject.module.named_parameters():
        if name not in layers:
            left = select(plan.tensors.get(name, parameter.detach()), dict(plan.dropped.get(name, {})))
            numel += left.numel()
            size += left.numel() * stored_bytes(subject.module, name, parameter)
            nonzero += count_nonzero(left)
    persistent = subject.module.state_dict()
    for name, buffer in subject.module.named_buffers():
        if name in persistent:
            left_of = torch.Size(remaining_shape(tuple(buffer.shape), plan.dropped.get(name, {}))).numel()
            size += left_of * stored_bytes(subject.module, name, buffer)
    return numel, nonzero, size


def _skipping(subject: Subject, macs: Macs, layers: Mapping[str, LayerCount]) -> int | None:
    """MACs if hardware skipped every zero weight: each module's own count times its density. Not what a CPU does."""
    if macs.total is None:
        return None
    owners: dict[str, list[LayerCount]] = {}
    for layer in layers.values():
        owners.setdefault(layer.name.rpartition(".")[0], []).append(layer)
    saved = 0.0
    for owner, members in owners.items():
        remaining = sum(layer.remaining for layer in members)
        if remaining and members[0].kind != "embedding":
            saved += macs.modules.get(owner, 0) * (1 - sum(layer.nonzero for layer in members) / remaining)
    return round(macs.total - saved)
