"""Removing units: every tensor of a copy loses the entries that a unit owns. Ours alone; used by trial and compress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import UnsupportedError
from ..core.message import say
from .attention import PrunedAttention, PrunedEncoder, PrunedEncoderLayer
from .layers import CONVOLUTIONS, TRANSPOSED
from .norms import NORM, resize
from .stack import RecurrentStack
from .structure import Cut

ATTENTION = (nn.MultiheadAttention, PrunedAttention)


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
        if NORM in dims:  # a norm itself: its weight and bias are tensors like others
            resize(old, len(dims[NORM].unique()))
            continue
        if isinstance(old, int):  # a number of heads, by which a forward reshapes
            setattr(owners[owner], name, old - len(dims[0].unique()))
        elif isinstance(old, nn.Parameter):
            if id(old) not in tied:
                tied[id(old)] = nn.Parameter(select(old.detach(), dims), requires_grad=old.requires_grad)
            for other_name, other in owners.items():  # whoever shares it, too
                for key, value in other._parameters.items():
                    if value is old:
                        setattr(other, key, tied[id(old)])
                        touched[other_name] = other
        else:
            setattr(owners[owner], name, select(old, dims))
        touched[owner] = owners[owner]
    for owner_module in touched.values():
        if isinstance(owner_module, (nn.LSTM, nn.GRU, nn.RNN, RecurrentStack)):
            _resize_recurrent(module, owner_module)
        else:
            _resize(owner_module)
    for name in dict.fromkeys(n if isinstance(owners[n], ATTENTION) else n.rpartition(".")[0] for n in touched):
        if isinstance(owners[name], ATTENTION):
            _resize_attention(module, owners[name])
    for name, owner_module in owners.items():
        if type(owner_module) is nn.TransformerEncoder and any(f"{one}.".startswith(f"{name}." if name else "") for one in touched):
            PrunedEncoder.become(owner_module)


def _resize_attention(root: nn.Module, old: nn.Module) -> None:
    """nn.MultiheadAttention ties the size of a head to its width: another module takes its place, wherever it stands."""
    if old is root:
        raise UnsupportedError(
            say("{type}: heads can be removed only where a module stands around it", type=type(old).__name__)
        )
    made = PrunedAttention.like(old)
    for parent in list(root.modules()):
        for key, child in parent._modules.items():
            if child is old:
                parent._modules[key] = made
                if type(parent) is nn.TransformerEncoderLayer:
                    parent.__class__ = PrunedEncoderLayer


def _resize_recurrent(root: nn.Module, module: Any) -> None:
    """Where layers end with different sizes, or not more units than projections, a stack takes the module's place."""
    made = RecurrentStack.like(module)
    one = isinstance(made.hidden_size, int) and isinstance(made.proj_size, int)
    if one and not 0 < made.hidden_size <= made.proj_size and not isinstance(module, RecurrentStack):
        module.input_size, module.hidden_size, module.proj_size = made.input_size, made.hidden_size, made.proj_size
        return
    if module is root:
        raise UnsupportedError(
            say("{type}: layers of different sizes need a module around them", type=type(module).__name__)
        )
    for parent in list(root.modules()):
        for key, child in parent._modules.items():
            if child is module:
                parent._modules[key] = made


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
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, (nn.LSTMCell, nn.GRUCell, nn.RNNCell)):
        module.hidden_size, module.input_size = module.weight_hh.shape[1], module.weight_ih.shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)):
        reference = module.weight if module.weight is not None else module.running_mean
        if reference is not None:
            module.num_features = len(reference)
