"""Memory that is written anew."""

from __future__ import annotations

from torch import Tensor


class Room:
    """For what one chunk of samples leaves behind and the next needs as much of: the system takes longer to hand memory over than a step
    takes to fill it. Of what is taken nothing may be kept after :meth:`again`."""

    def __init__(self) -> None:
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
