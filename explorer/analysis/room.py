"""Memory that is written anew."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

LARGEST = 31 << 20  # bytes; glibc's own limit of what follows is 32 MB


@cache
def keep_blocks() -> None:
    """Let malloc keep blocks of this process for the next pass, as it does from the first large one on that was freed.

    glibc asks the system for every block above a threshold and hands it back when it is freed, which costs a fault a page: for a small
    LSTM a third of a pass. The threshold rises to the largest block freed so far (mallopt(3), M_MMAP_THRESHOLD); this one was never touched.
    """
    torch.empty(LARGEST, dtype=torch.uint8)


class Room:
    """For what one chunk of samples leaves behind and the next needs as much of: the system takes longer to hand memory over than a step
    takes to fill it. Of what is taken nothing may be kept after :meth:`again`."""

    def __init__(self) -> None:
        keep_blocks()
        self._free: list[Tensor] = []
        self._taken: list[Tensor] = []

    def take(self, like: Tensor, *shape: int) -> Tensor:
        """A tensor of that shape, of like's type and device, with anything in it."""
        for k, one in enumerate(self._free):
            if one.shape == shape and one.dtype == like.dtype and one.device == like.device:
                found = self._free.pop(k)
                break
        else:
            found = like.new_empty(shape)
        self._taken.append(found)
        return found

    def again(self) -> None:
        """What was taken is free."""
        self._free, self._taken = self._free + self._taken, []
