"""Which scale or table an entry belongs to: one for the tensor, one a position along an axis, a group of entries, or a gate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import LoadError
from ...core.message import say


@dataclass(frozen=True)
class Slices:
    """Slices of a tensor of ``shape``.

    axis None: one slice. axis alone: one a position along it. axis and size: the entries of a position, in the order of
    the other axes, in groups of ``size``. axis and parts: the positions in ``parts`` equal blocks.
    """

    shape: tuple[int, ...]
    axis: int | None = None
    size: int | None = None
    parts: int | None = None

    @property
    def _groups(self) -> int:
        """Slices of one position along the axis."""
        assert self.axis is not None
        return -(-(math.prod(self.shape) // max(1, self.shape[self.axis])) // self.size) if self.size else 1

    @property
    def count(self) -> int:
        """How many slices there are."""
        return 1 if self.axis is None else (self.parts or self.shape[self.axis]) * self._groups

    def of(self, positions: np.ndarray) -> np.ndarray:
        """The slice of each flat position, int64."""
        if self.axis is None:
            return np.zeros(len(positions), np.int64)
        inner = math.prod(self.shape[self.axis + 1 :])
        outer, rest = np.divmod(positions, max(1, self.shape[self.axis] * inner))
        out, rest = np.divmod(rest, max(1, inner))
        if self.parts:
            return out // max(1, self.shape[self.axis] // self.parts)
        return out * self._groups + (outer * inner + rest) // self.size if self.size else out

    @property
    def row(self) -> dict[str, int]:
        """What the header says about it."""
        named = {"axis": self.axis, "size": self.size, "parts": self.parts}
        return {key: value for key, value in named.items() if value is not None}

    @classmethod
    def read(cls, row: Any, shape: tuple[int, ...], where: str) -> Slices:
        """From a header's row, for a tensor of ``shape``. Raises :class:`LoadError`."""
        good = (
            isinstance(row, dict)
            and set(row) <= {"axis", "size", "parts"}
            and all(type(n) is int for n in row.values())
        )
        if good and row:
            axis, size, parts = row.get("axis", -1), row.get("size", 1), row.get("parts", 1)
            good = 0 <= axis < len(shape) and 0 < size < 2**31 and 0 < parts and shape[axis] % parts == 0
            good = good and not ("size" in row and "parts" in row)
        if not good:
            raise LoadError(say("{where}: no valid slices ({row})", where=where, row=str(row)[:80]))
        return cls(shape, **row)
