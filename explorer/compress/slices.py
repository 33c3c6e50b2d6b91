"""Which entries of a weight share a scale or a codebook."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.checks import shown
from ..core.errors import RecipeError
from ..core.message import say

GATES = {"lstm": 4, "gru": 3, "rnn": 1}  # blocks of rows of a recurrent matrix


@dataclass(frozen=True)
class Slices:
    """A tensor of ``shape`` cut into slices; made by :func:`slices_of`.

    axis None: one slice, the tensor (of any shape). axis alone: one a channel. axis and size: the entries of a channel, in
    the order of the other axes, in groups of ``size``; a channel's last group may be shorter. axis and parts: the channels
    in ``parts`` equal blocks (gates). Parameters of the slices have the shape ``parameters``: (), (channels,),
    (channels, groups) or (parts,).
    """

    shape: tuple[int, ...] = ()
    axis: int | None = None
    size: int | None = None
    parts: int | None = None

    @property
    def granularity(self) -> str:
        """tensor, channel, group or gate."""
        return "tensor" if self.axis is None else "group" if self.size else "gate" if self.parts else "channel"

    @property
    def parameters(self) -> tuple[int, ...]:
        """The shape of scales and zero points."""
        if self.axis is None:
            return ()
        if self.size:
            return self.shape[self.axis], -(-self._width // self.size)
        return (self.parts or self.shape[self.axis],)

    @property
    def count(self) -> int:
        """How many slices there are."""
        return torch.Size(self.parameters).numel()

    @property
    def _width(self) -> int:
        """Entries of one channel."""
        assert self.axis is not None
        return torch.Size(self.shape).numel() // max(self.shape[self.axis], 1)

    def rows(self, weight: Tensor) -> Tensor:
        """[slices, n]: the entries of each slice; a shorter last group is filled up with zeros."""
        if self.axis is None:
            return weight.reshape(1, -1)
        rows = weight.movedim(self.axis, 0).flatten(1)  # [channels, width]
        if self.size:
            short = self.parameters[1] * self.size - self._width
            return torch.nn.functional.pad(rows, (0, short)).reshape(-1, self.size)
        return rows.reshape(self.count, -1) if self.parts else rows

    def back(self, rows: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """The inverse of :meth:`rows` for a weight of ``shape``."""
        if self.axis is None:
            return rows.reshape(shape)
        moved = (shape[self.axis], *shape[: self.axis], *shape[self.axis + 1 :])
        if self.size:
            rows = rows.reshape(moved[0], -1)[:, : self._width]
        return rows.reshape(moved).movedim(0, self.axis)

    def spread(self, values: Tensor, weight: Tensor) -> Tensor:
        """Parameters of the slices, so that they broadcast against ``weight``."""
        if self.axis is None:
            return values
        if self.size or self.parts:
            n = self.size or torch.Size(self.shape).numel() // self.count
            return self.back(values.reshape(-1, 1).expand(-1, n), weight.shape)
        shape = [1] * weight.ndim
        shape[self.axis] = -1
        return values.view(shape)


def slices_of(
    layer: str, kind: str, shape: tuple[int, ...], axis: int, granularity: str = "tensor", size: int | None = None
) -> Slices:
    """The slices of a layer's weight as it remains; ``axis`` is that of its output channels.

    gate: of lstm (i, f, g, o), gru (r, z, n) and rnn matrices, and of attention's fused projection (q, k, v).
    Raises :class:`RecipeError` where the granularity does not fit the layer.
    """
    if granularity == "tensor":
        return Slices()
    if granularity == "channel":
        return Slices(shape, axis)
    if granularity == "group":
        if size is None or size < 1:
            raise RecipeError(
                say("{layer}: group_size={size}; accepted: a whole number from 2", layer=layer, size=shown(size))
            )
        return Slices(shape, axis, size)
    parts = GATES.get(kind, 3 if layer.rpartition(".")[2] == "in_proj_weight" else 0)
    if layer.rpartition(".")[2].startswith("weight_hr"):
        parts = 1  # a projection has no gates
    if not parts or shape[axis] % parts:
        accepted = say("tensor, channel or group")
        raise RecipeError(
            say(
                "{layer} ({kind}) has no gates; accepted for its granularity: {accepted}",
                layer=layer,
                kind=kind,
                accepted=accepted,
            )
        )
    return Slices(shape, axis, None, parts)
