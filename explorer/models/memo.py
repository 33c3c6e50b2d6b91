"""A small thread-safe memo: identical work in flight is done once, results are kept up to a byte budget."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

T = TypeVar("T")
ROOM = 256 << 20  # bytes of all results that are kept in this process
LOOSE = 1024  # of a part of that size each memo need not give account: a drag puts many small results
PLAIN = frozenset({int, float, bool, str, type(None)})


def nbytes(value: Any) -> int:
    """Bytes of the tensors and arrays within a value (nested tuples, lists, dicts, objects)."""
    if type(value) in PLAIN:
        return 64
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(nbytes, value.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(nbytes, value))
    inner = getattr(value, "__dict__", None)
    return sum(map(nbytes, inner.values())) + 200 if isinstance(inner, dict) else 64


class Memo:
    """``memo.get(key, compute)``: the kept result, or ``compute()``'s, run by one caller while others wait.

    budget: bytes of its own results. All memos of the process together hold ``ROOM`` bytes: what nobody has used for longest goes,
    whose ever it is, so that a server's memory does not grow with the number of models that were looked at.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = ROOM if budget is None else budget
        self._kept: OrderedDict[Hashable, tuple[Any, int, int]] = OrderedDict()  # value, bytes, when it was last used
        self._busy: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self.used = 0
        self._new = 0  # bytes put since room was last made
        with _everybody:
            _memos.add(self)

    def peek(self, key: Hashable) -> Any:
        """The kept result, or None."""
        with self._lock:
            return self._kept[key][0] if key in self._kept else None

    def get(self, key: Hashable, compute: Callable[[], T], size: int | None = None) -> T:
        """The kept result of ``key``; else compute it, once however many ask. size: as of :meth:`put`."""
        with self._lock:
            if key in self._kept:
                return self._used_now(key)  # type: ignore[no-any-return]
            mine = self._busy.setdefault(key, threading.Lock())
        with mine:
            with self._lock:
                if key in self._kept:
                    return self._used_now(key)  # type: ignore[no-any-return]
            try:
                value = compute()
                self.put(key, value, size)
            finally:
                with self._lock:
                    self._busy.pop(key, None)
        return value

    def _used_now(self, key: Hashable) -> Any:
        value, size, _ = self._kept.pop(key)
        self._kept[key] = (value, size, next(_clock))
        return value

    def put(self, key: Hashable, value: Any, size: int | None = None) -> None:
        """Keep a result; the least recently used go when the budget is exceeded. size: its bytes, where these are known: to look at all that
        an object holds may take longer than to make it."""
        size = nbytes(value) if size is None else size
        with self._lock:
            if key in self._kept:
                self.used -= self._kept.pop(key)[1]
            self._kept[key] = (value, size, next(_clock))
            self.used += size
            while self.used > self.budget and len(self._kept) > 1:
                self.used -= self._kept.popitem(last=False)[1][1]
            self._new += size
            if self._new * LOOSE < ROOM:
                return
            self._new = 0
        _make_room()

    def _oldest(self) -> int | None:
        """When the first to go was last used; None where nothing can go: the newest stays, however large it is."""
        with self._lock:
            return next(iter(self._kept.values()))[2] if len(self._kept) > 1 else None

    def _let_go(self) -> None:
        with self._lock:
            if len(self._kept) > 1:
                self.used -= self._kept.popitem(last=False)[1][1]


_memos: weakref.WeakSet[Memo] = weakref.WeakSet()
_everybody, _clearing = threading.Lock(), threading.Lock()
_clock = itertools.count()


def _make_room() -> None:
    """Of all memos, the least recently used results go until they fit. One thread sees to it; others that put meanwhile do not wait."""
    with _everybody:
        memos = list(_memos)
    if sum(one.used for one in memos) <= ROOM or not _clearing.acquire(blocking=False):
        return
    try:
        while sum(one.used for one in memos) > ROOM:
            ages = [(age, i) for i, one in enumerate(memos) if (age := one._oldest()) is not None]
            if not ages:
                return
            memos[min(ages)[1]]._let_go()
    finally:
        _clearing.release()
