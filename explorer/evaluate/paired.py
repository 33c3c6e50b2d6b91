"""Two models of one task on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import TaskError
from ..core.message import say
from ..core.report import Figure
from ..models.device import pick
from ..models.subject import Subject
from .engine import Engine, engine
from .evaluator import ORIGINAL
from .metrics import Columns
from .seen import Table


@dataclass(frozen=True)
class Paired:
    """before, after: the figures of both; changes: after less before, with their paired 95 % intervals; the first is the main one."""

    before: Mapping[str, Figure]
    after: Mapping[str, Figure]
    changes: Mapping[str, Figure]

    @property
    def main(self) -> str:
        """Name of the main metric."""
        return next(iter(self.after))


def paired(
    before: Subject,
    after: Subject,
    *,
    split: str = "validation",
    device: str | torch.device | None = None,
    cancel: Callable[[], bool] | None = None,
    user: Hashable = None,
) -> Paired:
    """Judge two subjects on all samples of a split in float32, sample by sample against each other; what was evaluated already is
    not evaluated again. Raises :class:`TaskError` where their tasks differ, and what :func:`explorer.evaluate` raises."""
    if before.task is not after.task:
        raise TaskError(say("{before} and {after} are judged on different tasks; accepted: two models of one", before=before.name, after=after.name))
    was, now = (_columns(engine(one, pick(device), "full"), split, cancel, user) for one in (before, after))
    metrics = engine(after, pick(device), "full").metrics
    return Paired(metrics.figures(was, split), metrics.figures(now, split), metrics.changes(was, now, split))


def _columns(run: Engine, split: str, cancel: Any, user: Hashable) -> Columns:
    """Of all samples in the order of the split: each model's engine sees them in an order of its own."""
    data = run.data(split)
    with run.subject.steady(), run.work(user, False, cancel) as work:
        found = run.ensure(ORIGINAL, split, data.total, work).columns(data.total)
    back = torch.argsort(data.order)
    return Table({name: column[back.to(column.device)] for name, column in found.items()})
