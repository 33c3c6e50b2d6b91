"""Runs of the whole page take turns: thirty at once would each take as long as all of them together."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

LONG = (
    0.5  # seconds after which a run that has its turn holds up nobody: it computes something that takes long, or waits
)


class Turns:
    """Who came first draws first, ``room`` at a time. They share one Python lock: side by side all would end late, one after the other most end early."""

    def __init__(self, room: int, long: float = LONG) -> None:
        self.room, self.long = room, long
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._ends: dict[object, float] = {}  # of those that have their turn: when they no longer count

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, at most as long as those in front take theirs."""
        me = object()
        with self._changed:
            self._waiting.append(me)
            try:
                while self._waiting[0] is not me or (left := self._full()) > 0:
                    self._changed.wait(left if self._waiting[0] is me else None)
                self._ends[me] = time.monotonic() + self.long
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                del self._ends[me]
                self._changed.notify_all()

    def _full(self) -> float:
        """Seconds until there is room, if nobody ends before; 0 where there is some."""
        now = time.monotonic()
        counting = sorted(end for end in self._ends.values() if end > now)
        return counting[-self.room] - now if len(counting) >= self.room else 0.0


pages = Turns(min(4, os.cpu_count() or 1))  # of this process
