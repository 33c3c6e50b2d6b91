"""Who computes next on a device: first answers before full evaluations, users in turn, each user's newest request alone."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..core.errors import Cancelled
from ..core.message import say
from . import prefixes

ASK = 0.25  # seconds of waiting after which somebody may have thought better of it
_numbers = itertools.count()


@dataclass(eq=False)
class Request:
    """One evaluation of one user. preview: somebody waits for it with a hand on the mouse. background: work of minutes, such as a
    training, which gives way to everything else between two of its steps. cancel: asked while it waits."""

    user: Hashable
    preview: bool
    background: bool = False
    cancel: Callable[[], bool] | None = field(default=None, repr=False)
    number: int = field(default_factory=lambda: next(_numbers))
    started: bool = False
    superseded: bool = False
    woken: threading.Event = field(default_factory=threading.Event, repr=False)  # to look again whether it is its turn
    waited: float = 0.0  # seconds spent in the queue

    @property
    def rank(self) -> int:
        """0 for a preview that runs, 1 for one that waits, 2 for a full evaluation, which goes chunk by chunk, 3 in the background."""
        if self.background:
            return 3
        return (0 if self.started else 1) if self.preview else 2


class DeviceQueue:
    """One chunk at a time: more would only take cores and memory from each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: int | None = None  # the thread that computes
        self._waiting: list[Request] = []
        self._served: dict[Hashable, int] = {}
        self._newest: dict[Hashable, Request] = {}

    @contextmanager
    def request(
        self, user: Hashable, preview: bool, background: bool = False, cancel: Callable[[], bool] | None = None
    ) -> Iterator[Request]:
        """An evaluation from its start to its end; an older one of the same user is superseded. user None: nobody's. In the
        background nothing is superseded."""
        mine = Request(user, preview, background, cancel)
        user = None if background else user
        with self._lock:
            older = self._newest.get(user) if user is not None else None
            if user is not None:
                self._newest[user] = mine
            if older is not None:
                older.superseded = True
                older.woken.set()
        try:
            yield mine
        finally:
            with self._lock:
                if self._newest.get(user) is mine:
                    del self._newest[user]

    @contextmanager
    def turn(self, request: Request) -> Iterator[None]:
        """Wait until it is this request's turn, for one chunk. Raises :class:`Cancelled` for one that was superseded,
        or that ``cancel()`` has ended in the meantime."""
        me = threading.get_ident()
        if self._busy == me:  # within a turn of one's own
            yield
            return
        began = time.perf_counter()
        with self._lock:
            self._waiting.append(request)
        try:
            while not self._taken(request, me):
                request.woken.wait(None if request.cancel is None else ASK)
                if request.cancel is not None and request.cancel():
                    raise Cancelled(say("cancelled while it waited for its turn"))
        except BaseException:  # superseded, or interrupted: nobody may wait behind it
            with self._lock:
                self._waiting.remove(request)
                self._wake()
            raise
        request.waited += time.perf_counter() - began
        try:
            yield
        finally:
            with self._lock:
                self._busy = None
                self._wake()

    def _taken(self, request: Request, me: int) -> bool:
        """Take the device if it is this request's turn."""
        with self._lock:
            request.woken.clear()
            if not request.superseded and (self._busy is not None or self._next() is not request):
                return False
            if request.superseded:
                raise Cancelled(say("superseded by a newer request of the same user"))
            self._waiting.remove(request)
            self._busy = me
            request.started = True
            self._served[request.user] = next(_numbers)
            return True

    def _wake(self) -> None:
        """Tell the next one alone: thirty that all look would keep Python's lock from the one that computes."""
        if self._busy is None and self._waiting:
            self._next().woken.set()

    def _next(self) -> Request:
        return min(self._waiting, key=lambda one: (one.rank, self._served.get(one.user, -1), one.number))

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def leave(self, user: Hashable) -> None:
        """A user is gone."""
        with self._lock:
            self._served.pop(user, None)
            if user in self._newest:
                gone = self._newest.pop(user)
                gone.superseded = True
                gone.woken.set()


_queues: dict[str, DeviceQueue] = {}
_lock = threading.Lock()


def queue_of(device: object) -> DeviceQueue:
    """The queue of a device, one for all sessions of the process."""
    with _lock:
        return _queues.setdefault(str(device), DeviceQueue())


def leave(user: Hashable) -> None:
    """A user's tab was closed: nothing waits for it and nothing is kept for it alone."""
    for queue in list(_queues.values()):
        queue.leave(user)
    prefixes.leave(user)
