"""Prepare rules made concrete: BatchNorm folded into the layer in front, and ranges evened out between layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.errors import RecipeError
from ..core.message import say
from ..core.rules import EQUALIZE, FOLD
from ..models.chains import Chain, along, chains, folded
from ..models.subject import Subject

SWEEPS = 40


def prepared(
    subject: Subject, holds: Mapping[str, Mapping[str, int]], pruned: Callable[[str], Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """({layer: factors of its weight, broadcasting to its shape}, {FQN of a bias or norm tensor: its value}).

    The function stays the same. pruned: the weight of a layer as masked, from which ranges are taken. An equalized pair is
    folded first: its norm could not be rescaled otherwise. Raises :class:`RecipeError` where a rule finds nothing to do.
    """
    asked = {kind: {name for name, kinds in holds.items() if kind in kinds} for kind in (FOLD, EQUALIZE)}
    if not asked[FOLD] and not asked[EQUALIZE]:
        return {}, {}
    known = chains(subject)
    pairs = [c for c in known if c.consumer and {c.producer, c.consumer} <= asked[EQUALIZE]]
    folds = [c for c in known if c.norm and c.producer in asked[FOLD]]
    if asked[FOLD] and not folds:
        raise RecipeError(
            say(
                "{subject}: nothing to fold; accepted: a convolution or linear layer with a BatchNorm behind it",
                subject=subject.name,
            )
        )
    if asked[EQUALIZE] and not pairs:
        raise RecipeError(
            say(
                "{subject}: nothing to equalize; accepted: two layers with nothing but ReLU, pooling and BatchNorm between them, both among "
                "the targets",
                subject=subject.name,
            )
        )  # fmt: skip
    module = subject.module
    ones = {c.producer: (weight := subject.weight(c.producer)).new_ones(len(weight)) for c in known}
    rows = {c.producer: ones[c.producer] for c in (*folds, *pairs)}  # factor of each output channel
    tensors: dict[str, Tensor] = {}
    for chain in dict.fromkeys((*folds, *pairs)):
        if chain.norm:
            rows[chain.producer], after = folded(module.get_submodule(chain.norm))
            tensors |= {f"{chain.norm}.{name}": value for name, value in after.items()}
    scales = _equalized(pairs, {name: pruned(name) for c in pairs for name in (c.producer, str(c.consumer))}, rows)
    factors: dict[str, Tensor] = {}

    def multiply(name: str, factor: Tensor) -> None:
        factors[name] = factors[name] * factor if name in factors else factor

    for chain in dict.fromkeys((*folds, *pairs)):
        s = scales.get(chain.producer, ones[chain.producer])
        multiply(chain.producer, along(rows[chain.producer] / s, subject.weight(chain.producer).ndim, 0))
        owner: Any = module.get_submodule(chain.producer.rpartition(".")[0])
        if owner.bias is not None:
            tensors[chain.producer.removesuffix("weight") + "bias"] = owner.bias.detach() * rows[chain.producer] / s
        for name in ("bias", "running_mean"):
            if f"{chain.norm}.{name}" in tensors:
                tensors[f"{chain.norm}.{name}"] = tensors[f"{chain.norm}.{name}"] / s
        if chain in pairs:
            reader = str(chain.consumer)
            multiply(reader, along(s.repeat_interleave(chain.width), subject.weight(reader).ndim, chain.dim))
    return factors, tensors


def _equalized(pairs: list[Chain], weights: dict[str, Tensor], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{producer: s [channels]}: rows divided by s and the consumer's inputs times s have equal ranges, sqrt(r1 r2).

    s = sqrt(r1 / r2), pair after pair until nothing moves. Channels that are zero on either side keep s = 1.
    Source: Nagel et al. 2019, arXiv 1906.04721, eq. 11.
    """
    for name, factor in rows.items():
        if name in weights:
            weights[name] = weights[name] * along(factor, weights[name].ndim, 0)
    total: dict[str, Tensor] = {}
    for _ in range(SWEEPS):
        moved = 0.0
        for chain in pairs:
            first, second = weights[chain.producer], weights[str(chain.consumer)]
            mine = first.flatten(1).abs().amax(1)
            theirs = second.movedim(chain.dim, 0).flatten(1).abs().amax(1).view(-1, chain.width).amax(1)
            alive = (mine > 0) & (theirs > 0)
            s = torch.where(alive, (mine / theirs.clamp(min=1e-30)).sqrt(), torch.ones_like(mine)).clamp(1e-4, 1e4)
            weights[chain.producer] = first / along(s, first.ndim, 0)
            weights[str(chain.consumer)] = second * along(s.repeat_interleave(chain.width), second.ndim, chain.dim)
            total[chain.producer] = total[chain.producer] * s if chain.producer in total else s
            moved = max(moved, float(s.log().abs().max()))
        if moved < 1e-3:
            break
    return total
