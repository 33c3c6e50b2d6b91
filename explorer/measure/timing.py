"""Wall-clock times of several variants that take turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ..core.errors import Cancelled
from ..core.message import say

WARM, LEAST, MOST = 3, 15, 20_000  # runs before, and rounds


def interleaved(
    runs: Sequence[Callable[[], object]],
    seconds: float,
    cancel: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[np.ndarray]:
    """Seconds of each run, [rounds] for each variant: round after round until ``seconds`` are spent, at least 15 rounds.

    Every other round goes backwards, so that no variant always follows the same one. Raises :class:`Cancelled`.
    """
    for run in runs:
        for _ in range(WARM):
            run()
    found: list[list[float]] = [[] for _ in runs]
    end = clock() + seconds
    rounds = 0
    while rounds < LEAST or (clock() < end and rounds < MOST):
        if cancel is not None and cancel():
            raise Cancelled(say("measuring was cancelled"))
        pairs = list(zip(runs, found, strict=True))
        for run, mine in pairs if rounds % 2 == 0 else pairs[::-1]:
            start = clock()
            run()
            mine.append(clock() - start)
        rounds += 1
    return [np.array(one) for one in found]


def quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """(median, first, third quartile)."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return float(median), float(low), float(high)
