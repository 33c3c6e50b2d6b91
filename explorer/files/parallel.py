"""Work in threads, its results in order, and never more of them waiting than a few."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..core.errors import Cancelled
from ..core.message import say

T = TypeVar("T")


def workers() -> int:
    """More than the cores, since some of them wait for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(4, min(2 * cores, 16))


def in_order(work: Iterable[Callable[[], T]], cancel: Callable[[], bool] | None = None) -> Iterator[T]:
    """What each piece of work returns, in the order given. Raises :class:`Cancelled`, and what a piece raises."""
    many = workers()
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(many, "explorer-stream")
    try:
        for piece in work:
            waiting.append(pool.submit(piece))
            while len(waiting) > 2 * many:
                yield _next(waiting, cancel)
        while waiting:
            yield _next(waiting, cancel)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _next(waiting: deque[Future[T]], cancel: Callable[[], bool] | None) -> T:
    if cancel is not None and cancel():
        raise Cancelled(say("cancelled"))
    return waiting.popleft().result()
