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

    def add(self, tap: Tap, ndim: int) -> None:
        """What a product read; ndim: of its weight."""
        x = tap.inputs
        dim = x.ndim - 1 if tap.kind == "linear" else x.ndim - ndim + 1
        flat = x.movedim(dim, 0).flatten(1) if dim != x.ndim - 1 else x.reshape(-1, x.shape[-1]).T
        self.count += flat.shape[1]
        found = torch.stack([flat.sum(1), flat.abs().sum(1), flat.square().sum(1), (flat == 0).sum(1).to(flat.dtype)])
        found = found.cpu().double()  # summed there: not every device has float64
        self.total, self.absolute = self.total + found[0], self.absolute + found[1]
        self.squares, self.zeros = self.squares + found[2], self.zeros + found[3]


def of_units(subject: Subject, group: str, table: Mapping[str, Moments]) -> dict[str, Tensor]:
    """Pooled over all values that the group's consumers read: {"mean", "abs", "variance", "zeros"} each [units]."""
    cut = subject.structure.cuts[group]
    sums = {key: torch.zeros(cut.group.units, dtype=torch.float64) for key in ("total", "absolute", "squares", "zeros")}
    count = 0
    for piece in cut.slices:
        if piece.role != "consumer" or piece.tensor not in table:
            continue
        found = table[piece.tensor]
        if found.total.numel() == subject.weight(piece.tensor).shape[piece.dim]:
            for key, total in sums.items():
                total += getattr(found, key)[piece.index].sum(1)
            count += found.count * piece.index.shape[1]
    mean = sums["total"] / max(count, 1)
    variance = (sums["squares"] / max(count, 1) - mean.square()).clamp(min=0)
    return {"mean": mean, "abs": sums["absolute"] / max(count, 1), "variance": variance, "zeros": sums["zeros"] / max(count, 1)}
