"""Groups of units that must be removed together, with the entries of every tensor that go with a unit.

What flows through the traced model proposes; a trial removal on real inputs, in float64, decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.errors import cause
from ..core.layers import Group
from ..core.message import Message, say
from .jointly import Tell

if TYPE_CHECKING:
    from .subject import Subject


@dataclass(frozen=True, eq=False)
class Slice:
    """Entries of one tensor that belong to units: unit u owns ``index[u]`` along ``dim``.

    tensor: FQN of a parameter or buffer. index: int64 [units, k]. role: "producer" (the layer's own rows), "follower"
    (bias, BatchNorm, depthwise filters), "consumer" (columns that read the unit), "attribute" (a number of heads or of groups) or "norm": then
    ``tensor`` is the FQN of a module that normalizes over the unit, and ``dim`` is -1.
    """

    tensor: str
    dim: int
    index: Tensor
    role: str


@dataclass(frozen=True, eq=False)
class Cut:
    """A group and where its units live."""

    group: Group
    slices: tuple[Slice, ...]

    def removed(self, kept: Tensor) -> Mapping[tuple[str, int], Tensor]:
        """{(tensor, dim): indices that go} when only the units ``kept`` [K] stay."""
        import torch

        gone = torch.ones(self.group.units, dtype=torch.bool)
        gone[kept] = False
        out: dict[tuple[str, int], Tensor] = {}
        for piece in self.slices:
            index = piece.index[gone].reshape(-1)
            key = (piece.tensor, piece.dim)
            out[key] = torch.cat([out[key], index]) if key in out else index
        return out


@dataclass(frozen=True, eq=False)
class Structure:
    """cuts: group name -> Cut. refused: layer name -> why its units cannot be removed."""

    cuts: Mapping[str, Cut]
    refused: Mapping[str, Message]


def find_structure(subject: Subject, tell: Tell = None) -> Structure:
    """Propose groups, try each on a copy with real inputs, keep those whose removal is exact. tell: called with (tried, of)."""
    import torch

    from . import equal_heads, groups
    from .onnx_module import NO_UNITS, opaque
    from .trial import Trials, too_large

    layers = subject._plain_layers  # found by the first run of all, which sees to it that none writes to its weights
    if (why := NO_UNITS if opaque(subject.module) is not None else too_large(subject)) is not None:
        return Structure({}, {layer.name: why for layer in layers})

    with torch.inference_mode(False):  # whatever mode the caller is in
        try:
            ledger, ways = groups.look(subject)
            proposed, refused = groups.propose(subject, ledger)
        except Exception as error:  # any model may come here; one that does not run has no groups, and says why
            why = say("its units could not be followed ({error})", error=cause(error, 120))
            return Structure({}, {layer.name: why for layer in layers})
    cuts: dict[str, Cut] = {}
    alone: list[Cut] = []
    trials = Trials(subject, ways)
    for cut, reason in zip(proposed, trials.reasons(proposed, tell), strict=True):
        if reason is None:
            cuts[cut.group.name] = cut
        else:
            alone.append(cut)
            refused.update({name: reason for name in cut.group.producers})
    for cut in equal_heads.together(alone, subject.module):
        if trials.alone(cut) is None:
            cuts[cut.group.name] = cut
    produced = {name for cut in cuts.values() for name in cut.group.producers}
    follows = {piece.tensor: cut.group.name for cut in cuts.values() for piece in cut.slices if piece.role == "follower"}
    for layer in layers:
        if layer.name in follows:
            refused.setdefault(
                layer.name,
                say("it has no units of its own: its entries go with the units of {group}", group=follows[layer.name]),
            )
        elif layer.name not in produced:
            refused.setdefault(layer.name, _reason(layer.kind))
    return Structure(cuts, {name: why for name, why in refused.items() if name not in produced})


def _reason(kind: str) -> Message:
    if kind in ("rnn", "lstm", "gru"):
        return say("its hidden units could not be followed through the model")
    if kind == "attention":
        return say("its heads could not be followed through the model")
    if kind == "embedding":
        return say("its width is not removable in this release")
    return say("it produces no units that another layer consumes")
