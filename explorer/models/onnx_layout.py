"""How a parameter lies in a tensor of an ONNX file: transposed, one direction of several, gates in another order.

Parameters have torch's layout, outputs first and gates in torch's order, so that a rule for channels, N:M patterns or gates
means the same for every model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

# torch's block of rows i is the file's block GATES[i]: ONNX has i, o, f, c and z, r, h; torch i, f, g, o and r, z, n
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


@dataclass(frozen=True)
class Place:
    """Where one parameter lies.

    tensor: the value's name in the file. shape: that tensor's. permute: its axes in the order of the parameter's, () as they
    are. direction: index along its first axis, of recurrent tensors. half: of a recurrent bias, 0 input and 1 recurrent.
    gates: the file's block of rows for each of torch's. dtype: the tensor's; parameters of 16 bits are held as float32.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    permute: tuple[int, ...] = ()
    direction: int | None = None
    half: int | None = None
    gates: tuple[int, ...] = ()

    def _part(self, whole: Tensor) -> Tensor:
        part = whole if self.direction is None else whole[self.direction]
        return part if self.half is None else part.chunk(2)[self.half]

    def read(self, whole: Tensor) -> Tensor:
        """The parameter of a tensor of the file."""
        part = self._part(whole)
        if self.gates:
            blocks = part.chunk(len(self.gates))
            part = torch.cat([blocks[gate] for gate in self.gates])
        part = part.permute(self.permute) if self.permute else part
        return (part.float() if part.element_size() < 4 else part).contiguous()

    def write(self, value: Tensor, whole: Tensor) -> None:
        """Put a parameter's value into a tensor of the file, in place."""
        if self.permute:
            value = value.permute([self.permute.index(axis) for axis in range(len(self.permute))])
        part = self._part(whole)
        if not self.gates:
            part.copy_(value)
            return
        blocks = part.chunk(len(self.gates))
        for gate, block in zip(self.gates, value.chunk(len(self.gates)), strict=True):
            blocks[gate].copy_(block)

    @property
    def shaped(self) -> tuple[int, ...]:
        """The parameter's shape."""
        part = self.shape if self.direction is None else self.shape[1:]
        if self.half is not None:
            part = (part[0] // 2,)
        return tuple(part[axis] for axis in self.permute) if self.permute else part

    @property
    def plain(self) -> bool:
        """Whether parameter and tensor are the same values in the same places and the same type."""
        return not self.permute and self.direction is None and self.dtype.itemsize >= 4

    def rows(self) -> list[int]:
        """For each row of the file's part the row of the parameter that it is."""
        size = self.shaped[0] // len(self.gates)
        return [self.gates.index(block) * size + i for block in range(len(self.gates)) for i in range(size)]


def assemble(parts: Iterable[tuple[Place, Tensor]]) -> Tensor:
    """The tensor of the file from the values of all of its parameters."""
    pairs = list(parts)
    place = pairs[0][0]
    whole = torch.empty(place.shape, dtype=place.dtype)
    for where, value in pairs:
        where.write(value.detach().cpu(), whole)
    return whole


def numel(shape: Iterable[int]) -> int:
    """Entries of a shape, as an exact integer."""
    return math.prod(shape)
