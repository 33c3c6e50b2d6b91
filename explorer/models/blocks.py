"""Blocks that can go whole: the branches of residual additions, each tried on real inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from ..core.errors import cause
from ..core.layers import Group
from ..core.message import Message, say
from .absent import GONE, SHAPED, form_of, narrowed, shaped
from .attention import PrunedEncoderLayer
from .calls import Call, calls
from .flow_attention import ENCODER, ENCODER_LAYER
from .jointly import FEW, Tell
from .residual import branches, stack
from .trace import trace

if TYPE_CHECKING:
    from .subject import Subject
    from .trial_blocks import BlockTrials


@dataclass(frozen=True, eq=False)
class Block:
    """A branch that can go. group: its name, layers and tensors; one unit. modules: {FQN: form of what it answers}, the
    outermost modules that only this branch calls. term: the value of the traced graph that the branch adds, where it is traced."""

    group: Group
    modules: dict[str, tuple[int, ...]]
    term: str | None = None

    def dropped(self, units: Mapping[str, Mapping[int, Tensor]] | None = None) -> dict[str, dict[int, Tensor]]:
        """As part of what a plan drops: tensors stand with nothing, modules with the form of their answer.

        units: what else a plan drops; where answers have full size, they become as narrow as the rows of their weight.
        """
        gone = {name: {GONE: torch.empty(0, dtype=torch.int64)} for name in self.group.members}
        for name, form in self.modules.items():
            rows = (units or {}).get(f"{name}.weight", {}).get(0)
            gone[name] = {GONE: torch.tensor(narrowed(form, 0 if rows is None else len(rows.unique())))}
        return gone


@dataclass(frozen=True, eq=False)
class Depth:
    """blocks: {name: Block} in forward order. refused: {layer: why the branch it is in must stay}."""

    blocks: Mapping[str, Block]
    refused: Mapping[str, str]


def find_blocks(subject: Subject, tell: Tell = None) -> Depth:
    """Branches whose removal was tried on real inputs, in float64, and equals leaving them out of the sum. tell: called with (tried, of)."""
    from .groups import _leaf
    from .onnx_module import NO_UNITS, opaque
    from .trial import too_large
    from .trial_blocks import BlockTrials

    if (why := NO_UNITS if opaque(subject.module) is not None else too_large(subject)) is not None:
        return Depth({}, {layer.name: why for layer in subject._plain_layers})

    refused: dict[str, str] = {}
    with torch.inference_mode(False):
        try:
            copied = subject.copy().cpu()
            (call,) = calls(subject, copied, (3,))
            module, graph = trace(copied, call, _leaf)
            found = [*branches(graph, module), *_encoder_layers(graph, module)]
            forms, same = _forms(copied, call, {name for modules, _ in found for name in modules})
        except Exception as error:  # any model may come here
            why = say("the model cannot be traced ({error})", error=cause(error, 120))
            return Depth({}, {layer.name: why for layer in subject._plain_layers})
        named = (
            subject.module.named_parameters(remove_duplicate=False),
            subject.module.named_buffers(remove_duplicate=False),
        )
        held = [pair for pairs in named for pair in pairs]
        made = [
            block
            for modules, term in found
            if (block := _block(subject, modules, term, forms, held, refused)) is not None
        ]
        trials = BlockTrials(subject, module, graph, call) if made else None
        tried = _tried(made, lambda block: _sized(block, module, graph, same), trials, tell) if trials else []
        kept = [block for block, reason in tried if reason is None]
        for block, reason in tried:
            if reason is not None:
                refused.update(dict.fromkeys(block.group.producers, reason))
    inside = {name for block in kept for name in block.group.producers}
    for layer in subject._plain_layers:
        if layer.name not in inside:
            refused.setdefault(
                layer.name,
                say(
                    "no addition around it leaves a value that could pass it by, or it is used outside of its branch, too"
                ),
            )
    return Depth(_named(subject, kept), {name: why for name, why in refused.items() if name not in inside})


def _encoder_layers(graph: fx.Graph, root: nn.Module) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Attention and feed-forward network of every nn.TransformerEncoderLayer, which is not traced into."""
    for node in graph.nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        prefix = f"{node.target}." if node.target else ""
        layers: dict[str, Any] = {}
        if isinstance(module, ENCODER):
            layers = {f"{prefix}layers.{i}.": layer for i, layer in enumerate(module.layers)}
        elif isinstance(module, ENCODER_LAYER):
            layers = {prefix: module}
        for at, layer in layers.items():
            if type(layer) in (ENCODER_LAYER, PrunedEncoderLayer):
                yield (f"{at}self_attn", *([f"{at}norm1"] if layer.norm_first else [])), None
                yield (f"{at}linear1", f"{at}linear2", *([f"{at}norm2"] if layer.norm_first else [])), None


def _forms(module: nn.Module, call: Call, names: set[str]) -> tuple[dict[str, tuple[int, ...] | None], set[str]]:
    """What modules answer, seen in one call; and those that answer in the shape of what they are given."""
    forms: dict[str, tuple[int, ...] | None] = {}
    same: set[str] = set()

    def note(name: str, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        forms[name] = form_of(output)
        if isinstance(output, Tensor) and inputs and getattr(inputs[0], "shape", None) == output.shape:
            same.add(name)

    watched = copy.deepcopy(module)
    for name in names:
        watched.get_submodule(name).register_forward_hook(partial(note, name))
    call(watched)
    return forms, same


def _block(
    subject: Subject,
    modules: tuple[str, ...],
    term: str | None,
    forms: Mapping[str, Any],
    held: Sequence[tuple[str, Tensor]],
    refused: dict[str, str],
) -> Block | None:
    """A branch as a block, if it has layers; or None, with the reason noted for each of them. held: all tensors of the subject."""
    inside = tuple(f"{name}." for name in modules)
    layers = tuple(layer.name for layer in subject._plain_layers if layer.name.startswith(inside))
    own = {name: id(tensor) for name, tensor in held if name.startswith(inside)}
    shared = {id(tensor) for name, tensor in held if name not in own}.intersection(own.values())
    strange = [name for name in modules if forms.get(name) is None]
    if not layers:
        return None
    if shared or strange:
        why = (
            say("{name} is tied to a layer outside of its branch", name=next(n for n, t in held if id(t) in shared))
            if shared
            else ""
        )
        why = why or say("{name} returns something else than tensors", name=strange[0])
        refused.update(dict.fromkeys(layers, why))
        return None
    first = {name: None for name in [*layers, *own]}
    return Block(Group(modules[0], "block", 1, layers, tuple(first)), {name: forms[name] for name in modules}, term)


def _tried(
    blocks: list[Block], others: Callable[[Block], Iterator[Block]], trials: BlockTrials, tell: Tell = None
) -> list[tuple[Block, Message | None]]:
    """For each block the first of its ways to go that holds, and None; or the block itself, and why it does not hold.

    Where there are many, the first of a kind goes ahead: others of its kind are tried first in the way that holds for it.
    """
    ahead: dict[Hashable, int] = {}
    for block in blocks if len(blocks) >= FEW else ():
        if (kind := trials.kind(block)) not in ahead:
            ways = enumerate([block, *others(block)])
            ahead[kind] = next((i for i, way in ways if trials.alone(way) is None), 0)
    starts = []
    for block in blocks:
        level = ahead.get(trials.kind(block), 0)
        starts.append([block, *others(block)][: level + 1][-1] if level else block)
    found = list(zip(starts, trials.reasons(starts, tell), strict=True))
    left = {
        i: iter([way for way in (blocks[i], *others(blocks[i])) if way.modules != start.modules])
        for i, (start, reason) in enumerate(found)
        if reason is not None
    }
    while left:
        now = {i: way for i, ways in left.items() if (way := next(ways, None)) is not None}
        for i, reason in zip(now, trials.reasons(list(now.values())), strict=True):
            if reason is None or now[i] is blocks[i]:
                found[i] = (now[i], reason)
        left = {i: left[i] for i in now if found[i][1] is not None}
    return found


def _sized(block: Block, root: nn.Module, graph: fx.Graph, same: set[str]) -> Iterator[Block]:
    """The block with zeros of full size: within the branch, where code between its modules reshapes what they answer; then for
    the last of them, too, where the sum is added to its answer in place. same: modules whose output has their input's shape."""
    last = _last(block, graph)
    for ends in (set(), last):
        forms = {}
        for name in [name for name in block.modules if name not in last or name in ends]:
            rank = block.modules[name][0]
            form = shaped(root.get_submodule(name), rank) or ((SHAPED, rank, 0, 0) if name in same else None)
            forms[name] = form if rank >= 0 else None
        if block.term is not None and forms and all(forms.values()):
            yield replace(block, modules=block.modules | forms)  # type: ignore[arg-type]


def _last(block: Block, graph: fx.Graph) -> set[str]:
    """The modules between which and the sum there is no other one."""
    last, seen = set(), set()
    queue = [node for node in graph.nodes if node.name == block.term]
    while queue:
        node = queue.pop()
        own = next((name for name in stack(node) if name in block.modules), None)
        if own is not None:
            last.add(own)
        else:
            queue += [one for one in node.all_input_nodes if one not in seen]
            seen.update(node.all_input_nodes)
    return last


def _named(subject: Subject, blocks: list[Block]) -> dict[str, Block]:
    """{name: block} in forward order: the innermost module around all of its layers, or else its first layer's own."""
    order = {layer.name: i for i, layer in enumerate(subject._plain_layers)}
    unique = {frozenset(block.modules): block for block in blocks}
    ordered = sorted(unique.values(), key=lambda block: (order[block.group.producers[0]], -len(block.group.producers)))
    around = [_around(block.group.producers) for block in ordered]
    out: dict[str, Block] = {}
    for block, name in zip(ordered, around, strict=True):
        layers = set(block.group.producers)
        if not name or around.count(name) > 1 or any(other.startswith(f"{name}.") for other in around):
            inner = {one for other in ordered if layers > set(other.group.producers) for one in other.group.producers}
            name = next(
                (one for one in block.group.producers if one not in inner), block.group.producers[0]
            ).rpartition(".")[0]
        while name in out:
            name += "+"
        out[name] = replace(block, group=replace(block.group, name=name))
    return out


def _around(layers: tuple[str, ...]) -> str:
    """The innermost module around all of some layers; their own where they have one in common."""
    owners = zip(*(name.split(".")[:-1] for name in layers), strict=False)
    return ".".join(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, owners))
