"""Which entries of which tensors belong to one unit: a union-find over units, with a list of what they own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.message import Message, say

FIXED = -1  # an entry that belongs to no unit


@dataclass(frozen=True, eq=False)
class Entry:
    """One tensor runs along units: ``ids[i]`` is the unit of index i of ``dim``."""

    tensor: str
    dim: int
    role: str
    ids: np.ndarray


class Ledger:
    """Units are numbers. Units that must go together are united; units that cannot go are blocked, with the reason."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._blocked: dict[int, Message] = {}
        self.entries: list[Entry] = []
        self._known: dict[tuple[str, int], list[Entry]] = {}  # of each tensor's dim
        self.alias: dict[str, str] = {}  # {name of a tied parameter: the name that stands for it}
        self.heads: list[Tensor] = []  # units over which activations are multiplied with each other: attention heads
        self.notes: dict[str, str] = {}  # {tensor: what a unit of it is, where that is not plain}

    def fresh(self, n: int) -> Tensor:
        """``n`` new units, int64 [n]."""
        start = len(self._parent)
        self._parent.extend(range(start, start + n))
        return torch.arange(start, start + n)

    def find(self, unit: int) -> int:
        while self._parent[unit] != unit:
            self._parent[unit] = self._parent[self._parent[unit]]
            unit = self._parent[unit]
        return unit

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Element by element (broadcast): both go, or neither. A unit united with a fixed entry cannot go."""
        a, b = torch.broadcast_tensors(first, second)
        pairs = np.unique(torch.stack([a.reshape(-1), b.reshape(-1)], 1).numpy(), axis=0)
        for one, other in pairs.tolist():
            if one == other:
                continue
            if FIXED in (one, other):
                self._block(max(one, other), say("they are combined with values that stay"))
                continue
            root, leaf = self.find(one), self.find(other)
            if root != leaf:
                self._parent[leaf] = root
                if leaf in self._blocked:
                    self._blocked.setdefault(root, self._blocked[leaf])

    def unite_all(self, units: Tensor) -> None:
        """All of these go together."""
        flat = units.reshape(-1)
        if len(flat) > 1:
            self.unite(flat[:1], flat[1:])

    def _block(self, unit: int, reason: Message) -> None:
        if unit != FIXED:
            self._blocked.setdefault(self.find(unit), reason)

    def block(self, units: Tensor, reason: Message) -> None:
        """These cannot go."""
        for unit in np.unique(units.numpy()).tolist():
            self._block(unit, reason)

    def own(self, tensor: str, dim: int, role: str, ids: Tensor) -> None:
        """``tensor`` runs along these units on ``dim``; said twice (a module called twice), the units are united."""
        flat = ids.reshape(-1)
        tensor = self.alias.get(tensor, tensor)
        known = self._known.setdefault((tensor, dim), [])
        for entry in known:
            self.unite(torch.from_numpy(entry.ids), flat)
            if entry.role == role:
                return
        known.append(Entry(tensor, dim, role, flat.numpy().copy()))
        self.entries.append(known[-1])

    def reason(self, unit: int) -> Message | None:
        """Why a unit cannot go, or None."""
        return self._blocked.get(self.find(unit))

    def roots(self, ids: np.ndarray) -> np.ndarray:
        """The representative of each id; FIXED stays."""
        table = {unit: FIXED if unit == FIXED else self.find(unit) for unit in np.unique(ids).tolist()}
        return np.array([table[unit] for unit in ids.tolist()], dtype=np.int64)


def compact(ids: Tensor) -> Tensor | None:
    """Keep size only along dims on which ids depend (others become 1); None where there is no unit at all."""
    if ids.numel() == 0 or bool((ids == FIXED).all()):
        return None
    for dim in range(ids.ndim):
        if ids.shape[dim] > 1 and bool((ids == ids.narrow(dim, 0, 1)).all()):
            ids = ids.narrow(dim, 0, 1)
    return ids.clone()


def touches(ids: Tensor, dims: Iterable[int]) -> bool:
    """Whether ids depend on one of the dims."""
    return any(ids.shape[d] > 1 for d in dims)
