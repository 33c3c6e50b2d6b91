"""Which layers are coupled: torch-pruning's dependency graph, read and never used to change anything."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..core.errors import cause
from ..core.layers import Group
from ..core.message import Message, say
from .layers import CONVOLUTIONS, TRANSPOSED
from .structure import Cut, Slice
from .task import to_device

if TYPE_CHECKING:
    from .subject import Subject

NO_CONSUMER = say("its units reach the model's output")


def _graph(subject: Subject) -> Any:
    import torch_pruning as tp

    copied = subject.copy()
    copied.requires_grad_(True)  # the graph is read off autograd; nothing is ever back-propagated
    inputs = to_device(subject.example(2), next(copied.parameters()).device)
    with torch.enable_grad():
        graph = tp.DependencyGraph().build_dependency(
            copied,
            example_inputs=inputs,
            forward_fn=lambda module, x: subject.task.forward(module, x),
            verbose=False,
        )
    return copied, graph


def _groups(graph: Any, names: dict[nn.Module, str]) -> Iterator[tuple[str, Any]]:
    """(root, group) of every convolution and linear layer; in place of a group that cannot be read, why not.

    Like torch-pruning's own ``get_all_groups``, which gives up all groups where one of them fails.
    """
    visited: set[nn.Module] = set()
    for module in list(graph.module2node):
        if module in visited or module not in names or not isinstance(module, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)):
            continue
        pruner = graph.get_pruner_of_module(module)
        if pruner is None or not pruner.get_out_channels(module):
            continue
        try:
            units = list(range(pruner.get_out_channels(module)))
            group = graph.get_pruning_group(module, pruner.prune_out_channels, units)
        except Exception as error:
            why = say("the coupling of its units could not be read ({cause})", cause=cause(error, 120))
            yield names[module], why
            continue
        visited |= {dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)}
        yield names[module], group


def propose(subject: Subject) -> tuple[list[Cut], dict[str, Message]]:
    """Groups of channels and neurons that look removable, in forward order; and why others do not."""
    refused: dict[str, Message] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copied, graph = _graph(subject)
            names = {module: name for name, module in copied.named_modules()}
            groups = list(_groups(graph, names))
    except Exception as error:  # any model may come here; one that cannot be read has no groups, and says why
        unread = say("the coupling of its layers could not be read ({cause})", cause=cause(error, 120))
        return [], {layer.name: unread for layer in subject._plain_layers}
    rank = {layer.name: i for i, layer in enumerate(subject._plain_layers)}
    cuts = []
    for root, group in groups:
        if isinstance(group, Message):
            refused[f"{root}.weight"] = group
            continue
        found, producers = _read(group, names, rank)
        if isinstance(found, Cut):
            cuts.append(found)
        else:
            refused.update({name: found for name in producers if name in rank})
    return sorted(cuts, key=lambda cut: rank[cut.group.producers[0]]), refused


def _read(group: Any, names: dict[nn.Module, str], rank: dict[str, int]) -> tuple[Cut | Message, list[str]]:
    """One of torch-pruning's groups as a Cut, or the reason why not, and its producers."""
    slices: dict[tuple[str, int, str], dict[int, list[int]]] = {}
    why: Message | None = None
    seen = set()
    for item in group:
        module, handler = item.dep.target.module, getattr(item.dep.handler, "__name__", "")
        output = handler.startswith("prune") and "out_channels" in handler
        if module not in names:
            if isinstance(module, nn.Parameter):
                why = say("its units pass through a parameter outside of any layer")
            continue  # element-wise and reshaping operations hold no weights
        name = names[module]
        key = (name, output, tuple(item.idxs[:8]), len(item.idxs))
        if key in seen:
            continue
        seen.add(key)
        pieces, problem = _pieces(module, output)
        if problem:
            why = why or say("its units pass through {name} ({what})", name=name, what=problem)
        for tensor, dim, role in pieces:
            index = slices.setdefault((f"{name}.{tensor}" if name else tensor, dim, role), defaultdict(list))
            for entry, unit in zip(item.idxs, item.root_idxs, strict=True):
                index[int(unit)].append(int(entry))
    producers = sorted((t for t, _, role in slices if role == "producer"), key=lambda t: rank.get(t, 0))
    if why:
        return why, producers
    if not any(role == "consumer" for *_, role in slices):
        return NO_CONSUMER, producers
    if not producers or any(tensor not in rank for tensor in producers):
        return say("no layer produces its units"), producers
    units = max(len(index) for index in slices.values())
    pieces_out = []
    for (tensor, dim, role), index in slices.items():
        widths = {len(entries) for entries in index.values()}
        if len(index) != units or len(widths) != 1:
            return say("its units are spread unevenly over {tensor}", tensor=tensor), producers
        table = torch.tensor([index[u] for u in sorted(index)], dtype=torch.int64)  # [units, k]
        pieces_out.append(Slice(tensor, dim, table, role))
    pieces_out.sort(key=lambda s: ("producer", "follower", "consumer").index(s.role))
    name = producers[0].rpartition(".")[0]
    owner = next(module for module, fqn in names.items() if fqn == name)
    members = tuple(dict.fromkeys([*producers, *(piece.tensor for piece in pieces_out)]))
    kind = "neuron" if isinstance(owner, nn.Linear) else "channel"
    return Cut(Group(name, kind, units, tuple(producers), members), tuple(pieces_out)), producers


def _pieces(module: nn.Module, output: bool) -> tuple[list[tuple[str, int, str]], str]:
    """(tensor, dim, role) of what a module loses with a unit; or why it cannot lose one."""
    bias = [("bias", 0, "follower")] if getattr(module, "bias", None) is not None else []
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        transposed = isinstance(module, TRANSPOSED)
        if module.groups > 1:
            if module.groups == module.in_channels == module.out_channels and not transposed:
                return ([("weight", 0, "follower"), *bias] if output else []), ""
            return [], say("a grouped convolution")
        if output:
            return [("weight", 1 if transposed else 0, "producer"), *bias], ""
        return [("weight", 0 if transposed else 1, "consumer")], ""
    if isinstance(module, nn.Linear):
        return ([("weight", 0, "producer"), *bias] if output else [("weight", 1, "consumer")]), ""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        affine = [(name, 0, "follower") for name in ("weight", "bias") if getattr(module, name) is not None]
        running = [(name, 0, "follower") for name in ("running_mean", "running_var") if getattr(module, name) is not None]
        return [*affine, *running], ""
    if not list(module.parameters(recurse=False)) and not list(module.buffers(recurse=False)):
        return [], ""
    return [], type(module).__name__
