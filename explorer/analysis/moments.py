"""What units say: sums over their activations, where the next layers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..models.layout import channels_last
from ..models.subject import Subject
from .reductions import moments
from .taps import Tap


@dataclass(eq=False)
class Moments:
    """Of the inputs of a product, by feature: sums over samples and positions. count: how many values a feature has."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    absolute: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))
    zeros: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, found: Tensor, count: int) -> None:
        """found: as :func:`sums` gives it; count: how many values of each place it is of."""
        size = found[0, 0].numel()
        found = found.flatten(2).sum(2) if found.ndim > 2 else found
        self.count += count * size
        self.total, self.absolute = self.total + found[0], self.absolute + found[1]
        self.squares, self.zeros = self.squares + found[2], self.zeros + count * size - found[3]


def sums(tap: Tap, ndim: int) -> tuple[Tensor, int]:
    """(float64 sums of x, |x|, x^2 and x != 0, [4, F] of what a linear layer reads, [4, C, *S] of a convolution; over how many values
    each); ndim: of the weight."""
    x = tap.inputs
    if tap.kind == "linear":
        x = x.reshape(-1, x.shape[-1])
        return moments(x), len(x)
    x = x if x.ndim == ndim else x.unsqueeze(0)
    if channels_last(x):  # as it lies in memory
        return moments(x.movedim(1, -1).reshape(len(x), -1)).view(4, *x.shape[2:], x.shape[1]).movedim(-1, 1), len(x)
    return moments(x.flatten(1)).view(4, *x.shape[1:]), len(x)


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
