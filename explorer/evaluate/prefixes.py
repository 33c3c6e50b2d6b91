"""Values in front of what a drag changes, kept for the next move: least recently used first out, within a byte budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..models.device import room

BUDGET = 1 << 30


def storages(value: Any) -> dict[int, int]:
    """{address: bytes} of the storages behind all tensors within nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()}
    out: dict[int, int] = {}
    value = getattr(value, "outputs", value)  # a tape of calls
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ():
        out |= storages(one)
    return out


class Prefixes:
    """Kept by group (an engine, a section of its graph, the plan in front of it, a split), within it by samples.

    A group that does not fit keeps its first samples, which every look asks for: throwing out the oldest of one pass over
    more than the budget would leave nothing of use.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.used = 0
        self._groups: OrderedDict[Hashable, dict[Hashable, tuple[Any, int]]] = OrderedDict()
        self._users: dict[Hashable, set[Hashable]] = {}
        self._lock = threading.Lock()

    def get(self, group: Hashable, key: Hashable, user: Hashable = None) -> Any:
        """What is kept, or None."""
        with self._lock:
            if group not in self._groups:
                return None
            self._groups.move_to_end(group)
            self._users[group].add(user)
            found = self._groups[group].get(key)
            return found[0] if found else None

    def extent(self, group: Hashable) -> int:
        """How many samples of the group are kept: the last of its keys' (first, last, ...)."""
        with self._lock:
            return max((key[1] for key in self._groups.get(group, ())), default=0)  # type: ignore[index]

    def put(
        self, group: Hashable, key: Hashable, value: Any, shared: Iterable[int] = (), user: Hashable = None
    ) -> bool:
        """Keep a value if it fits; storages at the addresses ``shared`` (the data itself) cost nothing."""
        given = set(shared)
        size = sum(n for address, n in storages(value).items() if address not in given) + 200
        with self._lock:
            while self.used + size > self.budget:
                oldest = next(iter(self._groups), group)
                if oldest == group:
                    break
                self._forget(oldest)
            if self.used + size > self.budget:
                return False
            mine = self._groups.setdefault(group, {})
            self._users.setdefault(group, set()).add(user)
            self._groups.move_to_end(group)
            self.used += size - mine.get(key, (None, 0))[1]
            mine[key] = (value, size)
            return True

    def _forget(self, group: Hashable) -> None:
        self.used -= sum(size for _, size in self._groups.pop(group).values())
        self._users.pop(group)

    def drop(self, owner: Hashable) -> None:
        """Forget the groups of an engine (the first item of their keys)."""
        with self._lock:
            for group in [g for g in self._groups if isinstance(g, tuple) and g[0] == owner]:
                self._forget(group)

    def leave(self, user: Hashable) -> None:
        """A user is gone: what nobody else asked for goes too."""
        with self._lock:
            for group, users in list(self._users.items()):
                if user in users:
                    users.discard(user)
                    if not users:
                        self._forget(group)


_all: dict[str, Prefixes] = {}
_lock = threading.Lock()


def prefixes_of(device: torch.device) -> Prefixes:
    """What is kept on a device, by all engines of the process: 1 GB, of a GPU's memory an eighth where that is more."""
    with _lock:
        if str(device) not in _all:
            _all[str(device)] = Prefixes(room(device, BUDGET))
        return _all[str(device)]


def leave(user: Hashable) -> None:
    """A user is gone, from every device."""
    for one in list(_all.values()):
        one.leave(user)
