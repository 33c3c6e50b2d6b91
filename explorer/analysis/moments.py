"""What units say: sums over their activations, where the next layers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.layout import channels_last
from ..models.subject import Subject
from .reductions import moments
from .taps import Tap


@dataclass(eq=False)
class Moments:
    """Of the inputs of a product, over samples and positions. count: how many values a feature has; sums: float64 [4, F] of x, |x|,
    x^2 and x != 0, None of nothing."""

    count: int = 0
    sums: Tensor | None = None

    def add(self, found: Tensor, count: int) -> None:
        """found: as :func:`sums` gives it; count: how many values of each place it is of."""
        self.count += count * found[0, 0].numel()
        found = found.flatten(2).sum(2) if found.ndim > 2 else found
        self.sums = found if self.sums is None else self.sums + found


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
    sums, count = torch.zeros(4, cut.group.units, dtype=torch.float64), 0
    for name, index in readers_of(subject, cut, probe(subject)):
        found = table[name]
        if found.sums is not None:
            sums += found.sums[:, index].sum(2)
        count += found.count * index.shape[1]
    mean, absolute, squares, nonzero = sums / max(count, 1)
    return {
        "mean": mean,
        "abs": absolute,
        "variance": (squares - mean.square()).clamp(min=0),
        "zeros": 1 - nonzero if count else nonzero,
    }
