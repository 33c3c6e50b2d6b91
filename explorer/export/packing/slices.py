"""Which scale or table an entry belongs to: one for the tensor, one a slice along an axis, or one a group of inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.errors import LoadError
from ...core.message import say


@dataclass(frozen=True)
class Slices:
    """Slices of a tensor of ``shape``, of which the entries outside ``kept`` {dim: indices} were removed.

    axis None: one slice. group None: one a position along axis; else the other entries of a position, in their order,
    are cut into groups of ``group``.
    """

    shape: tuple[int, ...]
    axis: int | None = None
    group: int | None = None
    kept: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def left(self) -> tuple[int, ...]:
        """The shape after removal."""
        return tuple(len(self.kept[d]) if d in self.kept else size for d, size in enumerate(self.shape))

    @property
    def count(self) -> int:
        """How many slices there are, those of removed entries included."""
        if self.axis is None:
            return 1
        rest = math.prod(size for d, size in enumerate(self.shape) if d != self.axis)
        return self.shape[self.axis] * (-(-rest // self.group) if self.group else 1)

    def of(self, positions: np.ndarray) -> np.ndarray:
        """The slice of each flat position of the tensor that is left."""
        if self.axis is None:
            return np.zeros(len(positions), np.int64)
        where = list(np.unravel_index(positions, self.left)) if len(positions) else [positions] * len(self.shape)
        for dim, index in self.kept.items():
            where[dim] = np.asarray(index, np.int64)[where[dim]]
        out: np.ndarray = where[self.axis]
        if self.group:
            rest = [d for d in range(len(self.shape)) if d != self.axis]
            sizes = [self.shape[d] for d in rest]
            flat = np.ravel_multi_index([where[d] for d in rest], sizes) if rest else 0 * out
            out = out * -(-math.prod(sizes) // self.group) + flat // self.group
        return out

    @property
    def row(self) -> dict[str, Any]:
        """What the header says about it."""
        row: dict[str, Any] = {"axis": self.axis}
        if self.group:
            row["group"] = self.group
        if self.kept:
            row |= {"from": list(self.shape), "kept": {str(d): list(index) for d, index in self.kept.items()}}
        return row

    @classmethod
    def read(cls, row: object, left: tuple[int, ...], where: str) -> Slices:
        """From a header's row, for a tensor of shape ``left``. Raises :class:`LoadError`."""
        try:
            assert isinstance(row, dict) and set(row) <= {"axis", "group", "from", "kept"}
            shape = tuple(row.get("from", left))
            kept = {int(d): tuple(index) for d, index in row.get("kept", {}).items()}
            axis, group = row["axis"], row.get("group")
            assert len(shape) == len(left) and all(type(n) is int and 0 <= n < 2**31 for n in shape)
            assert axis is None or (type(axis) is int and 0 <= axis < len(shape))
            assert group is None or (type(group) is int and 0 < group < 2**31)
            assert all(0 <= d < len(shape) and all(type(i) is int and 0 <= i < shape[d] for i in kept[d]) for d in kept)
            made = cls(shape, axis, group, kept)
            assert made.left == left and math.prod(shape) < 2**48
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
            raise LoadError(say("{where}: no valid slices ({row})", where=where, row=str(row)[:80])) from None
        return made
