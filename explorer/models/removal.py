"""Removing units: every tensor of a copy loses the entries that a unit owns. Ours alone; used by trial and compress."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import UnsupportedError
from ..core.message import say
from .absent import GONE, Absent
from .attention import PrunedAttention, PrunedEncoder, PrunedEncoderLayer
from .layers import CONVOLUTIONS, TRANSPOSED
from .norms import LAST, NORM, resize
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


def alive(shape: tuple[int, ...], dropped: Mapping[int, Tensor]) -> Tensor:
    """Bool tensor of ``shape``: False for entries that go when ``dropped`` {dim: indices} are removed."""
    mask = torch.full(shape, GONE not in dropped)
    for dim, index in dropped.items():
        if dim != GONE:
            mask.index_fill_(dim, index.cpu(), False)
    return mask


def remaining_shape(shape: tuple[int, ...], dims: Mapping[int, Tensor]) -> tuple[int, ...]:
    """The shape after the dropped indices of each dim are gone; of a tensor that goes whole, without any entry."""
    if GONE in dims:
        return (0,) * max(len(shape), 1)
    return tuple(size - (len(dims[d].unique()) if d in dims else 0) for d, size in enumerate(shape))


def select(tensor: Tensor, dropped: dict[int, Tensor]) -> Tensor:
    """``tensor`` without the dropped indices of each dim, contiguous."""
    if GONE in dropped:
        return tensor.new_empty((0,) * max(tensor.ndim, 1))
    for dim, index in dropped.items():
        stays = torch.ones(tensor.shape[dim], dtype=torch.bool)
        stays[index] = False
        tensor = tensor.index_select(dim, stays.nonzero().flatten().to(tensor.device))
    return tensor.contiguous()


def remove(module: nn.Module, dropped: dict[str, dict[int, Tensor]]) -> None:
    """Shrink ``module`` in place (call it on a copy): tensors, then the attributes that state their sizes."""
    dropped = take_out(module, dropped)
    owners = dict(module.named_modules())
    holders: dict[int, list[tuple[str, str]]] = defaultdict(list)  # {id of a parameter: modules that hold it, and its name there}
    for owner, one in owners.items():
        for key, value in one._parameters.items():
            holders[id(value)].append((owner, key))
    tied: dict[int, nn.Parameter] = {}
    touched: dict[str, nn.Module] = {}
    parents = _parents(module)
    named = {full: full.rpartition(".")[::2] for full in dropped}
    before = {full: getattr(owners[owner], name) for full, (owner, name) in named.items()}
    for full, dims in dropped.items():
        (owner, name), old = named[full], before[full]
        if NORM in dims:  # a norm itself: its weight and bias are tensors like others
            resize(old, len(dims[NORM].unique()))
            continue
        if isinstance(old, int):  # a number of heads, by which a forward reshapes, or of a convolution's groups
            setattr(owners[owner], name, old - len(dims[0].unique()))
        elif isinstance(old, nn.Parameter):
            if id(old) not in tied:
                tied[id(old)] = nn.Parameter(select(old.detach(), dims), requires_grad=old.requires_grad)
            for other, key in holders[id(old)]:  # whoever shares it, too
                setattr(owners[other], key, tied[id(old)])
                touched[other] = owners[other]
        else:
            setattr(owners[owner], name, select(old, dims))
        touched[owner] = owners[owner]
    for owner_module in touched.values():
        if isinstance(owner_module, (nn.LSTM, nn.GRU, nn.RNN, RecurrentStack)):
            _resize_recurrent(module, owner_module, parents)
        else:
            _resize(owner_module)
    for name in dict.fromkeys(n if isinstance(owners[n], ATTENTION) else n.rpartition(".")[0] for n in touched):
        if isinstance(owners[name], ATTENTION):
            _resize_attention(module, owners[name], parents)
    for name, owner_module in owners.items():
        if isinstance(owner_module, nn.Transformer) and isinstance(owner_module.decoder.norm, LAST):
            owner_module.d_model = owner_module.decoder.norm.normalized_shape[0]  # which it checks its inputs by
        if type(owner_module) is nn.TransformerEncoder and any(f"{one}.".startswith(f"{name}." if name else "") for one in touched):
            PrunedEncoder.become(owner_module)


def take_out(root: nn.Module, dropped: dict[str, dict[int, Tensor]]) -> dict[str, dict[int, Tensor]]:
    """Put an :class:`Absent` in the place of modules that go whole. Returns what is to be dropped elsewhere."""
    gone = {name: dims[GONE].tolist() for name, dims in dropped.items() if GONE in dims and len(dims[GONE])}
    prefixes = tuple(f"{name}." for name in gone)
    parents = _parents(root) if gone else {}
    around: list[nn.Module] = []
    for name, form in gone.items():
        if name.startswith(prefixes):
            continue  # a branch within a branch that goes
        old = root.get_submodule(name)
        around += _swapped(parents, old, Absent.like(old, form))
    for parent in around:
        if isinstance(parent, nn.TransformerEncoderLayer):
            PrunedEncoderLayer.become(parent)  # last: it puts another attention in the place of the one that stays
    for parent in list(root.modules()) if gone else ():
        if isinstance(parent, nn.TransformerEncoder) and any(type(one) is PrunedEncoderLayer for one in parent.layers):
            PrunedEncoder.become(parent)
    return {name: dims for name, dims in dropped.items() if GONE not in dims and not name.startswith(prefixes)} if gone else dropped


# {id of a module: (one that holds it, its name there, itself: so that no other gets its id)}
Parents = dict[int, list[tuple[nn.Module, str, nn.Module]]]


def _parents(root: nn.Module) -> Parents:
    found: Parents = defaultdict(list)
    for parent in root.modules():
        for key, child in parent._modules.items():
            if child is not None:
                found[id(child)].append((parent, key, child))
    return found


def _swapped(parents: Parents, old: nn.Module, made: nn.Module) -> list[nn.Module]:
    """Put another module in a module's place, wherever it stands; the modules around it."""
    around = parents[id(old)]
    for parent, key, _ in around:
        parent._modules[key] = made
    return [parent for parent, _, _ in around]


def _resize_attention(root: nn.Module, old: nn.Module, parents: Parents) -> None:
    """nn.MultiheadAttention ties the size of a head to its width: another module takes its place, wherever it stands."""
    if old is root:
        raise UnsupportedError(
            say("{type}: heads can be removed only where a module stands around it", type=type(old).__name__)
        )
    for parent in _swapped(parents, old, PrunedAttention.like(old)):
        if type(parent) is nn.TransformerEncoderLayer:
            PrunedEncoderLayer.become(parent)


def _resize_recurrent(root: nn.Module, module: Any, parents: Parents) -> None:
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
    _swapped(parents, module, made)


def _resize(module: nn.Module) -> None:
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        first, second = module.weight.shape[:2]  # of channels, those of one group stand on one of the sides
        if isinstance(module, TRANSPOSED):
            module.in_channels, module.out_channels = first, second * module.groups
        else:
            module.in_channels, module.out_channels = second * module.groups, first
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
