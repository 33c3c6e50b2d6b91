"""Heads of several layers whose number is stated once, above them all: the layers can only lose equally many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from ..core.layers import Group
from .groups import counts_of_heads
from .structure import Cut, Slice


def together(alone: Sequence[Cut], module: nn.Module) -> Iterator[Cut]:
    """Groups of heads that failed by themselves, joined where a module above states their number: head k of each goes with head k
    of the others, and the number shrinks. The innermost such module comes first."""
    modules = dict(module.named_modules())
    heads = [cut for cut in alone if cut.group.kind == "head"]
    for owner in sorted(modules, key=lambda name: -len(name.split(".")) if name else 0):
        below = [cut for cut in heads if not owner or cut.group.producers[0].startswith(f"{owner}.")]
        for units in dict.fromkeys(cut.group.units for cut in below):
            same = [cut for cut in below if cut.group.units == units]
            own = {piece.tensor for cut in same for piece in cut.slices if piece.role == "attribute"}
            counts = counts_of_heads([piece for cut in same for piece in cut.slices], modules, units, [owner])
            if counts and (len(same) > 1 or not {piece.tensor for piece in counts} <= own):
                yield _joined(same, counts)


def _joined(cuts: Sequence[Cut], counts: Sequence[Slice]) -> Cut:
    pieces = {(piece.tensor, piece.dim, piece.role): piece for cut in cuts for piece in cut.slices}
    pieces |= {(piece.tensor, piece.dim, piece.role): piece for piece in counts}
    first = cuts[0].group
    producers = tuple(name for cut in cuts for name in cut.group.producers)
    members = tuple(dict.fromkeys([*producers, *(name for cut in cuts for name in cut.group.members)]))
    return Cut(Group(first.name, "head", first.units, producers, members), tuple(pieces.values()))
