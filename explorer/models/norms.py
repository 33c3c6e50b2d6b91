"""Normalization over the units that stay: LayerNorm, RMSNorm and GroupNorm of a masked model as if the others were gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .absent import GONE, silence

NORM = -1  # stands for a tensor's dim where the entries are those that a module normalizes over
LAST = (nn.LayerNorm, nn.RMSNorm)  # along the last dim; nn.GroupNorm along dim 1
WHOLE = torch.tensor([GONE])  # in place of indices: the module answers zeros


def norms_of(dropped: Mapping[str, Mapping[int, Tensor]]) -> dict[str, Tensor]:
    """{FQN of a norm: indices that it no longer sees; of a module that goes whole: :data:`WHOLE`} of what a removal drops."""
    seen = {name: dims[NORM] for name, dims in dropped.items() if NORM in dims}
    return seen | {name: WHOLE for name, dims in dropped.items() if GONE in dims and len(dims[GONE])}


def resize(norm: Any, gone: int) -> None:
    """State the size of a norm that has ``gone`` entries less; of a GroupNorm with several groups whole groups went."""
    if isinstance(norm, LAST):
        norm.normalized_shape = (norm.normalized_shape[0] - gone,)
        return
    size = norm.num_channels // norm.num_groups
    norm.num_channels -= gone
    if norm.num_groups > 1:
        norm.num_groups = norm.num_channels // size


def _survivors(kept: Tensor, groups: int, norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The norm's output over the entries ``kept`` [K]; zero elsewhere, where nobody reads it."""
    dim = -1 if isinstance(norm, LAST) else 1
    x = inputs[0].index_select(dim, kept)
    bias = getattr(norm, "bias", None)
    weight, bias = (None if one is None else one[kept] for one in (norm.weight, bias))
    if isinstance(norm, nn.LayerNorm):
        found = F.layer_norm(x, (len(kept),), weight, bias, norm.eps)
    elif isinstance(norm, nn.RMSNorm):
        found = F.rms_norm(x, (len(kept),), weight, norm.eps)
    else:
        found = F.group_norm(x, groups, weight, bias, norm.eps)
    return torch.zeros_like(output).index_copy(dim, kept, found)


@contextmanager
def over_survivors(module: nn.Module, norms: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block, ``norms`` {FQN: indices that are gone} of ``module`` take their statistics over the others; modules that
    go whole (:data:`WHOLE`) answer zeros.

    A hook does it, since nn.TransformerEncoderLayer leaves its fused kernel, which would pass the norms by, where one is set.
    """
    hooks = []
    try:
        for name, gone in norms.items():
            norm: Any = module.get_submodule(name)
            if gone is WHOLE:
                hooks.append(norm.register_forward_hook(lambda _, __, output: silence(output)))
                continue
            size = norm.normalized_shape[-1] if isinstance(norm, LAST) else norm.num_channels
            stays = torch.ones(size, dtype=torch.bool)
            stays[gone.cpu()] = False
            first = next(module.parameters(), torch.empty(0))
            kept = stays.nonzero().flatten().to(first.device)
            groups = 1 if isinstance(norm, LAST) or norm.num_groups == 1 else len(kept) // (size // norm.num_groups)
            hooks.append(norm.register_forward_hook(partial(_survivors, kept, groups)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
