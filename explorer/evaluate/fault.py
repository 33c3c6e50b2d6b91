"""Which sample a forward fails on: a batch's error says only that one of them is at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..core.errors import Cancelled
from ..models.device import exact
from ..models.replica import share
from .data import SplitData
from .seen import Work

if TYPE_CHECKING:
    from .engine import Engine


def alone(fails: Callable[[int, int], bool], start: int, stop: int, step: int) -> int | None:
    """The first of samples start .. stop - 1 that fails by itself, ``step`` of them tried at once; None where they fail only together, or no
    more. A batch that fails is halved."""
    for a in range(start, stop, step):
        b = min(a + step, stop)
        if not fails(a, b):
            continue
        while b - a > 1:
            middle = (a + b) // 2
            if fails(a, middle):
                b = middle
            elif fails(middle, b):
                a = middle
            else:
                return None
        return a
    return None


def sample_of(run: Engine, data: SplitData, start: int, stop: int, work: Work) -> int | None:
    """The place in the split of the first of a chunk's samples on which the model's own forward fails; None where no single one is at fault."""

    def fails(a: int, b: int) -> bool:
        with run.queue.turn(work.request), exact(run.device), run.replica.weights({}) as module:
            try:
                inputs = data.chunk(a, b)[0]
                run.subject.task.forward(share(module) if run.replica.layered is None else module, run.runner.given(inputs))
            except (Cancelled, torch.OutOfMemoryError):
                raise
            except Exception:
                return True
        return False

    with torch.inference_mode():
        found = alone(fails, start, stop, run.batch)
    return None if found is None else int(data.order[found])
