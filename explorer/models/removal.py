"""Removing units: every tensor of a copy loses the entries that a unit owns. Ours alone; used by trial and compress."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .layers import CONVOLUTIONS, TRANSPOSED
from .structure import Cut


def gone(cuts: Iterable[tuple[Cut, Tensor]]) -> dict[str, dict[int, Tensor]]:
    """{tensor FQN: {dim: indices to drop}} for pairs of a cut and the units that stay in it."""
    out: dict[str, dict[int, Tensor]] = {}
    for cut, kept in cuts:
        for (tensor, dim), index in cut.removed(kept).items():
            dims = out.setdefault(tensor, {})
            dims[dim] = torch.cat([dims[dim], index]) if dim in dims else index
    return out


def alive(shape: tuple[int, ...], dropped: dict[int, Tensor]) -> Tensor:
    """Bool tensor of ``shape``: False for entries that go when ``dropped`` {dim: indices} are removed."""
    mask = torch.ones(shape, dtype=torch.bool)
    for dim, index in dropped.items():
        mask.index_fill_(dim, index, False)
    return mask


def select(tensor: Tensor, dropped: dict[int, Tensor]) -> Tensor:
    """``tensor`` without the dropped indices of each dim, contiguous."""
    for dim, index in dropped.items():
        stays = torch.ones(tensor.shape[dim], dtype=torch.bool)
        stays[index] = False
        tensor = tensor.index_select(dim, stays.nonzero().flatten().to(tensor.device))
    return tensor.contiguous()


def remove(module: nn.Module, dropped: dict[str, dict[int, Tensor]]) -> None:
    """Shrink ``module`` in place (call it on a copy): tensors, then the attributes that state their sizes."""
    owners = dict(module.named_modules())
    tied: dict[int, nn.Parameter] = {}
    touched: dict[str, nn.Module] = {}
    named = {full: full.rpartition(".")[::2] for full in dropped}
    before = {full: getattr(owners[owner], name) for full, (owner, name) in named.items()}
    for full, dims in dropped.items():
        (owner, name), old = named[full], before[full]
        if isinstance(old, nn.Parameter):
            if id(old) not in tied:
                tied[id(old)] = nn.Parameter(select(old.detach(), dims), requires_grad=old.requires_grad)
            for other in owners.values():
                for key, value in other._parameters.items():
                    if value is old:
                        setattr(other, key, tied[id(old)])
        else:
            setattr(owners[owner], name, select(old, dims))
        touched[owner] = owners[owner]
    for owner_module in touched.values():
        _resize(owner_module)


def _resize(module: nn.Module) -> None:
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        first, second = module.weight.shape[:2]
        transposed = isinstance(module, TRANSPOSED)
        if module.groups > 1:  # depthwise: one filter a channel
            module.groups = module.in_channels = module.out_channels = first
        else:
            module.in_channels, module.out_channels = (first, second) if transposed else (second, first)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        reference = module.weight if module.weight is not None else module.running_mean
        if reference is not None:
            module.num_features = len(reference)
