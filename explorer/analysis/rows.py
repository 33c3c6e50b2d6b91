"""From values of weights to values of units."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..models.structure import Cut


def rows_of(cut: Cut, values: Mapping[str, Tensor]) -> Tensor:
    """[units, k]: for each unit of a group, the entries of ``values`` {producer: of its weight's shape} that it produces."""
    rows = []
    for piece in cut.slices:
        if piece.role == "producer":
            moved = values[piece.tensor].movedim(piece.dim, 0)
            rows.append(moved[piece.index.to(moved.device)].reshape(cut.group.units, -1))  # [units, k * rest]
    return torch.cat(rows, 1)
