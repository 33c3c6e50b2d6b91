"""Metrics by kind of task, one file each. A column holds one value a sample; metrics are summaries of columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...core.errors import EvaluationError
from ...core.message import say
from ...core.report import Change, ClassScore, Figure
from ...models.task import Task
from .. import intervals

Columns = Mapping[str, Tensor]
F = TypeVar("F", bound=Callable[..., Any])


class Rows(list[Tensor]):
    """Outputs of several batches one after the other, for metrics that judge each sample apart."""


class Table(dict[str, Tensor]):
    """Columns that keep what was computed from them: the original's are compared with again and again."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        super().__init__(columns)
        self.known: dict[Any, Any] = {}


def once(method: F) -> F:
    """Keep what a method of columns returns with the columns, where these keep it."""

    @wraps(method)
    def kept(self: Any, columns: Any, *more: Any) -> Any:
        if not isinstance(columns, Table):
            return method(self, columns, *more)
        key = (method.__name__, more)
        if key not in columns.known:
            columns.known[key] = method(self, columns, *more)
        return columns.known[key]

    return kept  # type: ignore[return-value]


class Metrics(ABC):
    """How outputs of one kind of task are judged."""

    @abstractmethod
    def columns(self, task: Task, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Outputs of one batch -> columns, each [N, ...]; where samples are judged ``apart``, of several batches as :class:`Rows`, too."""

    @abstractmethod
    def figures(self, columns: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        """Metrics over the samples in the columns; the first is the main one. within: these are a part of a split, and intervals
        say where the figure of all of it lies."""

    @abstractmethod
    def changes(self, before: Columns, after: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        """after - before on the same samples, with paired intervals."""

    def apart(self, task: Task) -> bool:
        """Whether a sample's columns have the same bits on a CPU whatever samples are judged beside it."""
        return False

    def main(self, before: Columns, after: Columns, split: str, within: intervals.Within | None = None) -> tuple[str, Figure, Figure]:
        """(name, value, change) of the main metric alone, as ``figures`` and ``changes`` have it; of the change ``within`` a split."""
        values = self.figures(after, split)
        name = next(iter(values))
        return name, values[name], self.changes(before, after, split, within)[name]

    def right(self, columns: Columns) -> Tensor | None:
        """[N] bools whose mean is the main metric, where it is one."""
        return None

    def certainty(self, columns: Columns) -> Tensor | None:
        """[N]: how far from the edge the answers are, right or wrong, where that can be told; where it is small, they change easily."""
        return None

    def kinds(self, columns: Columns) -> Tensor | None:
        """[N] whole numbers from 0 on: samples whose answers change alike, where few kinds of them can be told."""
        return None

    @abstractmethod
    def changed(self, before: Columns, after: Columns, indices: Tensor) -> list[Change]:
        """Samples whose answer differs; ``indices`` [N]: positions in the split."""

    def flips(self, before: Columns, after: Columns) -> tuple[int, int]:
        """(right before and wrong now, wrong before and right now), for tasks with right answers; of all samples, at a glance."""
        return 0, 0

    def per_class(self, before: Columns, after: Columns, names: tuple[str, ...] | None) -> dict[str, ClassScore]:
        """Scores by class, for tasks that have classes."""
        return {}

    def confusion(self, before: Columns, after: Columns) -> tuple[Any, ...]:
        """Confusion matrices before and after, for tasks that have classes."""
        return ()


def figure(value: float, split: str, n: int, interval: tuple[float | None, float | None] = (None, None)) -> Figure:
    """A measured figure."""
    return Figure(float(value), "measured", split, n, *interval)


def mean_figure(values: Tensor | np.ndarray, split: str, within: intervals.Within | None = None) -> Figure:
    """The mean of [N] values with its normal interval."""
    centre, deviation = intervals.moments(values)
    return figure(centre, split, len(values), intervals.around(centre, deviation, len(values), within))


BATCH = "loss//"  # a column that says that the loss is one value a batch, repeated: no interval comes from it


def losses(task: Task, outputs: Tensor, targets: Any, each: Tensor, default: bool) -> dict[str, Tensor]:
    """The loss column [N]: ``each`` for the default loss; a loss of the user's own gives one value a batch."""
    if default or task.loss is None:
        return {"loss": each}
    value = float(task.loss(outputs, targets))
    return {"loss": torch.full((len(each),), value), BATCH: torch.ones(len(each), dtype=torch.bool)}


def loss_figure(
    columns: Columns, split: str, before: Columns | None = None, within: intervals.Within | None = None
) -> Figure:
    """The mean loss, or its change since ``before``; with an interval where each sample has its own."""
    values = columns["loss"].numpy(force=True).astype(np.float64)
    if before is not None:
        values -= before["loss"].numpy(force=True)
    if BATCH in columns:
        return figure(values.mean(), split, len(values))
    return mean_figure(values, split, within)


def largest_changes(before: Tensor, after: Tensor, indices: Tensor, target: Tensor | None, limit: int = 200) -> list[Change]:
    """The samples [N] whose value moved most, as changes."""
    gap = (after - before).abs()
    top = torch.topk(gap, min(limit, len(gap))).indices
    return [
        Change(int(indices[i]), "changed", float(before[i]), float(after[i]), None if target is None else float(target[i]))
        for i in top.tolist()
        if gap[i] > 0
    ]


def expect(outputs: Any, ndim: tuple[int, ...], what: str) -> Tensor:
    """The output tensor, or one clear message."""
    if not isinstance(outputs, Tensor) or outputs.ndim not in ndim:
        got = (
            say("shape {shape}", shape=tuple(outputs.shape)) if isinstance(outputs, Tensor) else type(outputs).__name__
        )
        raise EvaluationError(
            say("the module returned {got}; accepted: {what} (or give the task forward=)", got=got, what=what)
        )
    return outputs


def metrics_of(kind: str) -> Metrics:
    """The metrics of a kind of task."""
    from .classification import Classification
    from .custom import Custom
    from .language_model import LanguageModel
    from .regression import Regression

    kinds: dict[str, type[Metrics]] = {
        "classification": Classification,
        "regression": Regression,
        "language_model": LanguageModel,
    }
    return kinds.get(kind, Custom)()
