"""What units say: sums over their activations, where the next layers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..models.subject import Subject
from .taps import Tap


@dataclass(eq=False)
class Moments:
    """Of the inputs of a product, by feature: sums over samples and positions. count: how many values a feature has."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    absolute: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))
    zeros: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, tap: Tap, ndim: int, everything: bool) -> Tensor:
        """What a product read; ndim: of its weight; everything: not its squares alone. Returns the sums of squares, [F] of a linear
        layer, [C, *S] of a convolution."""
        x = tap.inputs
        if tap.kind == "linear":
            x = x.reshape(-1, x.shape[-1])
        else:
            x = (x if x.ndim == ndim else x.unsqueeze(0)).flatten(2)  # [B, C, P]
        room = x * x  # one room for all: what has to be allocated costs more than what is computed
        squares = room.sum(0)
        if everything:
            found = torch.stack(
                [
                    _by_feature(x),
                    _by_feature(torch.abs(x, out=room)),
                    _by_feature(room.sign_()),
                    _by_feature(squares[None]),
                ]
            )
            count = x.numel() // found.shape[1]
            found = found.cpu().double()  # summed there: not every device has float64
            self.count += count
            self.total, self.absolute = self.total + found[0], self.absolute + found[1]
            self.squares, self.zeros = self.squares + found[3], self.zeros + count - found[2]
        return squares if tap.kind == "linear" else squares.view(tap.inputs.shape[1 - ndim :])


def _by_feature(x: Tensor) -> Tensor:
    """[F] of [N, F], [C] of [N, C, P]: sums. Contiguous entries first, which is the fast order."""
    return (x.sum(2) if x.ndim == 3 else x).sum(0)


def of_units(subject: Subject, group: str, table: Mapping[str, Moments]) -> dict[str, Tensor]:
    """Pooled over all values that the group's consumers read: {"mean", "abs", "variance", "zeros"} each [units]."""
    from .probe import probe
    from .readers import readers_of

    cut = subject.structure.cuts[group]
    sums = {key: torch.zeros(cut.group.units, dtype=torch.float64) for key in ("total", "absolute", "squares", "zeros")}
    count = 0
    for name, index in readers_of(subject, cut, probe(subject)):
        found = table[name]
        for key, total in sums.items():
            total += getattr(found, key)[index].sum(1)
        count += found.count * index.shape[1]
    mean = sums["total"] / max(count, 1)
    variance = (sums["squares"] / max(count, 1) - mean.square()).clamp(min=0)
    return {
        "mean": mean,
        "abs": sums["absolute"] / max(count, 1),
        "variance": variance,
        "zeros": sums["zeros"] / max(count, 1),
    }
