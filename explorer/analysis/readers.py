"""Where a group's units are read: which inputs of which products are theirs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.structure import Cut
from ..models.subject import Subject
from .probe import Probe


def readers_of(subject: Subject, cut: Cut, known: Probe) -> list[tuple[str, Tensor]]:
    """[(layer, index [units, k])]: inputs (features, channels) of watched layers that belong to each unit."""
    found = []
    for piece in cut.slices:
        if piece.role == "consumer" and piece.tensor in known.moments:
            shape = tuple(subject.weight(piece.tensor).shape)
            index = _inputs(known.kinds[piece.tensor], shape, known.groups[piece.tensor], piece.dim, piece.index)
            if index is not None:
                found.append((piece.tensor, index))
    return found


def _inputs(kind: str, shape: tuple[int, ...], groups: int, dim: int, index: Tensor) -> Tensor | None:
    """Inputs that the entries ``index`` [units, k] of a weight's ``dim`` multiply; None where they are not a unit's own."""
    if kind == "linear" and dim == 1 or kind == "transposed" and dim == 0:
        return index
    if kind == "conv" and dim == 1:  # a column of a grouped convolution reads the same position in every group
        places = index[:, :, None] + shape[1] * torch.arange(groups)
        return places.flatten(1)
    if kind == "conv" and dim == 0 and groups > 1:  # whole groups: their rows read all of the group's channels
        of = [torch.unique(row // (shape[0] // groups)) for row in index]
        if len({len(one) for one in of}) == 1:
            return (torch.stack(of)[:, :, None] * shape[1] + torch.arange(shape[1])).flatten(1)
    return None
