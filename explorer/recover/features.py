"""Hidden features of a teacher, without the units that its student has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.errors import TaskError
from ..core.message import say

if TYPE_CHECKING:
    from .run import Run


def matched(run: Run, name: str, mine: Tensor, theirs: Tensor) -> Tensor:
    """The teacher's features in the shape of the student's: of removed units, theirs are left out.

    name: FQN of the student's module. Raises :class:`TaskError` for shapes that differ by anything else.
    """
    if mine.shape == theirs.shape:
        return theirs
    if mine.ndim == theirs.ndim:
        differ = [dim for dim in range(mine.ndim) if mine.shape[dim] != theirs.shape[dim]]
        if len(differ) == 1:
            for stays in survivors(run, name, theirs.shape[differ[0]]):
                if len(stays) == mine.shape[differ[0]]:
                    return theirs.index_select(differ[0], stays.to(theirs.device))
    raise TaskError(
        say(
            "{layer}: features {mine} of the student and {theirs} of the teacher; accepted: equal shapes, or less of removed units",
            layer=name, mine=tuple(mine.shape), theirs=tuple(theirs.shape),
        )
    )  # fmt: skip


def survivors(run: Run, name: str, size: int) -> list[Tensor]:
    """Indices, among ``size``, of the units of a module's output that are still there: by what its own tensors have
    lost.

    Rows of a weight, a bias or a running mean are the outputs of most modules; of a recurrent layer, the columns of
    its recurrent matrix.
    """
    steps = [run.plan.dropped, *run.removed]
    named = dict.fromkeys(key for step in steps for key in step if key.rpartition(".")[0] == name)
    found = []
    for key in named:
        dim = 1 if ".weight_hh_" in key else 0
        stays = torch.arange(size)
        for step in steps:
            gone = step.get(key, {}).get(dim)
            if gone is not None and len(gone) and int(gone.max()) < len(stays):
                left = torch.ones(len(stays), dtype=torch.bool)
                left[gone.cpu()] = False
                stays = stays[left]
        found.append(stays)
    return sorted(found, key=lambda stays: -len(stays))
