"""Groups of units, read off what flows through the model."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..core.layers import Group
from ..core.message import Message, say
from . import branches
from .attention import PrunedAttention, PrunedEncoder, PrunedEncoderLayer
from .branches import Way
from .calls import calls
from .flow import Flow
from .flow_attention import ATTENTION
from .flow_recurrent import CELLS, RECURRENT
from .layers import kind_of
from .ledger import FIXED, Ledger
from .norms import LAST
from .plain import PLAIN
from .stack import RecurrentStack
from .structure import Cut, Slice
from .trace import trace

if TYPE_CHECKING:
    from .subject import Subject

ROLES = ("producer", "follower", "consumer", "attribute", "norm")


def _leaf(module: nn.Module) -> bool:
    own = isinstance(module, (PrunedAttention, PrunedEncoder, PrunedEncoderLayer, RecurrentStack))
    return own or type(module).__module__.startswith("torch.nn") and not isinstance(module, (nn.Sequential, nn.TransformerDecoderLayer, *PLAIN))


def follow(subject: Subject) -> Ledger:
    """Trace the module as its task calls it and follow its units. Raises where it cannot be traced."""
    copied = subject.copy().cpu()
    (call,) = calls(subject, copied, (3,))
    module, graph = trace(copied, call, _leaf)
    flow = Flow(module, graph)
    flow.ledger.alias = _aliases(subject.module)
    ordered = [n for n in graph.nodes if n.op == "placeholder"]
    named = [call.args[i] if i < len(call.args) else call.kwargs[str(n.target)] for i, n in enumerate(ordered)]
    with torch.no_grad():
        flow.run(*named)
    return flow.ledger


def look(subject: Subject) -> tuple[Ledger, list[Way]]:
    """The units of any module that runs, and ways through it on which to try them: none where it was traced."""
    try:
        return follow(subject), []
    except Exception:  # torch.fx cannot trace every model; what real calls compute can always be recorded
        return branches.follow(subject, _leaf, _aliases(subject.module))


def propose(subject: Subject, ledger: Ledger | None = None) -> tuple[list[Cut], dict[str, Message]]:
    """Groups that look removable, in forward order; and why others do not."""
    ledger = ledger or follow(subject)
    modules = dict(subject.module.named_modules())
    rank = {layer.name: i for i, layer in enumerate(subject._plain_layers)}
    heads = {ledger.find(unit) for marks in ledger.heads for unit in marks.unique().tolist() if unit != FIXED}
    units: dict[int, dict[tuple[str, int, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for entry in ledger.entries:  # {unit: {(tensor, dim, role): indices}}
        for index, unit in enumerate(ledger.roots(entry.ids).tolist()):
            if unit != FIXED:
                units[unit][entry.tensor, entry.dim, entry.role].append(index)
    families: dict[tuple[tuple[str, int, str, int], ...], list[int]] = defaultdict(list)
    for unit, owned in units.items():  # units that own the same number of entries of the same tensors are one group
        families[tuple(sorted((*key, len(index)) for key, index in owned.items()))].append(unit)
    cuts, refused = [], {}
    for family, members in families.items():
        producers = sorted({t for t, _, role, _ in family if role == "producer" and t in rank}, key=rank.__getitem__)
        if not producers:
            continue
        why = next((r for r in map(ledger.reason, members) if r), None)
        if why is None and not any(role == "consumer" for *_, role, _ in family):
            why = say("its units reach the model's output")
        if why is not None:
            refused.update({name: why for name in producers})
            continue
        cuts.append(_cut(family, members, units, producers, modules, members[0] in heads, ledger.notes))
    return _named(sorted(cuts, key=lambda cut: rank[cut.group.producers[0]])), refused


def _aliases(module: nn.Module) -> dict[str, str]:
    """{name of a parameter: the first name of the same parameter}, for tied ones alone."""
    first = {id(p): name for name, p in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if first[id(p)] != name}


def _named(cuts: list[Cut]) -> list[Cut]:
    """Where a layer's units fall into several groups, the second is called "layer#2", and so on."""
    seen: Counter[str] = Counter()
    out = []
    for cut in cuts:
        seen[cut.group.name] += 1
        number = seen[cut.group.name]
        out.append(replace(cut, group=replace(cut.group, name=f"{cut.group.name}#{number}")) if number > 1 else cut)
    return out


def _cut(
    family: tuple[tuple[str, int, str, int], ...],
    members: list[int],
    units: dict[int, dict[tuple[str, int, str], list[int]]],
    producers: list[str],
    modules: dict[str, nn.Module],
    heads: bool,
    notes: dict[str, str],
) -> Cut:
    first = next((t, d, r) for t, d, r, _ in family if r == "producer" and t == producers[0])
    members = sorted(members, key=lambda unit: units[unit][first])
    slices = []
    for tensor, dim, role, _ in family:
        index = torch.tensor([units[unit][tensor, dim, role] for unit in members])  # [units, k]
        slices.append(Slice(tensor, dim, index, role))
    owner, _, parameter = producers[0].rpartition(".")
    module = modules[owner]
    layer = re.search(r"_(l\d+(?:_reverse)?)$", parameter)
    kind = "head" if heads else _kind(module, len(getattr(module, parameter).shape))
    if len(producers) > 1 and any(s.role == "norm" and isinstance(modules[s.tensor], LAST) for s in slices):
        kind = "width"  # of a residual stream: what several layers write and each normalizes before it reads
    name = f"{owner}.{layer[1]}" if layer else owner
    name += ".proj" if layer and parameter.startswith("weight_hr") else ""
    if kind_of(module, parameter) == "other":
        name = producers[0]  # a parameter used by itself
    if kind == "head" and not isinstance(module, ATTENTION) and kind_of(module, parameter) != "other":
        name = owner.rpartition(".")[0] or owner  # heads belong to the attention, not to its queries
        slices += counts_of_heads(slices, modules, len(members))
    slices.sort(key=lambda s: ROLES.index(s.role))
    owned = tuple(dict.fromkeys([*producers, *(s.tensor for s in slices if s.role not in ("attribute", "norm"))]))
    about = tuple(notes[tensor] for tensor in dict.fromkeys(s.tensor for s in slices) if tensor in notes)
    return Cut(Group(name, kind, len(members), tuple(producers), owned, about), tuple(slices))


def _kind(module: nn.Module, rank: int) -> str:
    if isinstance(module, (*RECURRENT, *CELLS)):
        return "hidden"
    if isinstance(module, ATTENTION):
        return "head"
    if isinstance(module, nn.Linear) or rank == 2 and not isinstance(module, nn.Embedding):
        return "neuron"
    return "width" if isinstance(module, nn.Embedding) else "channel"


def counts_of_heads(slices: Sequence[Slice], modules: Mapping[str, nn.Module], units: int, owners: Sequence[str] = ()) -> list[Slice]:
    """Attributes that state the number of heads, by which a forward reshapes: they shrink with the heads.

    owners: FQNs of the modules that are looked at; by default those that hold the producing layers. Where several queries
    share a key, a unit is a key's head with its queries: their count is a multiple.
    """
    rows = {s.tensor: s.index.shape[1] for s in slices if s.role == "producer"}
    times = {count // min(rows.values()) for count in rows.values()}
    found = []
    for parent in owners or dict.fromkeys(producer.rpartition(".")[0].rpartition(".")[0] for producer in rows):
        for name, value in vars(modules[parent]).items():
            counts = "head" in name and not re.search("dim|size|width", name) and value in {units * t for t in times}
            # where one layer makes queries, keys and values, the width by which they are told apart
            if type(value) is int and (counts or name == "split_size" and 3 * value in {units * n for n in rows.values()}):
                index = torch.arange(value).view(units, -1)
                found.append(Slice(f"{parent}.{name}" if parent else name, 0, index, "attribute"))
    return found
