"""A small thread-safe memo: identical work in flight is done once, results are kept up to a byte budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")
PLAIN = frozenset({int, float, bool, str, type(None)})


def nbytes(value: Any) -> int:
    """Bytes of the tensors within a value (nested tuples, lists, dicts, objects with ``tensors``)."""
    if type(value) in PLAIN:
        return 64
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(nbytes, value.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(nbytes, value))
    inner = getattr(value, "__dict__", None)
    return sum(map(nbytes, inner.values())) + 200 if isinstance(inner, dict) else 64


class Memo:
    """``memo.get(key, compute)``: the kept result, or ``compute()``'s, run by one caller while others wait."""

    def __init__(self, budget: int = 256 << 20) -> None:
        self.budget = budget
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._busy: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self.used = 0

    def peek(self, key: Hashable) -> Any:
        """The kept result, or None."""
        with self._lock:
            return self._kept[key][0] if key in self._kept else None

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The kept result of ``key``; else compute it, once however many ask."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]  # type: ignore[no-any-return]
            mine = self._busy.setdefault(key, threading.Lock())
        with mine:
            with self._lock:
                if key in self._kept:
                    return self._kept[key][0]  # type: ignore[no-any-return]
            try:
                value = compute()
                self.put(key, value)
            finally:
                with self._lock:
                    self._busy.pop(key, None)
        return value

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a result; the least recently used go when the budget is exceeded."""
        size = nbytes(value)
        with self._lock:
            if key in self._kept:
                self.used -= self._kept.pop(key)[1]
            self._kept[key] = (value, size)
            self.used += size
            while self.used > self.budget and len(self._kept) > 1:
                self.used -= self._kept.popitem(last=False)[1][1]
