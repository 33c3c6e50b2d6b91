"""Accuracy, macro precision, recall and F1, loss; per class; confusion. As scikit-learn, zero_division=0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import EvaluationError
from ...core.message import say
from ...core.report import Change, ChangeKind, ClassScore, Figure
from ...models.task import Task
from .. import intervals
from . import BATCH, Columns, Metrics, Rows, expect, figure, loss_figure, losses, once


def scores(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(precision, recall, f1, support) per class [C], float64, 0 where undefined.

    In NumPy: each of torch's operations lets go of Python's lock, and where thirty people drag it is waited for anew.
    """
    counts = matrix.astype(np.float64)
    hit, predicted, support = counts.diagonal(), counts.sum(0), counts.sum(1)
    precision = hit / np.maximum(predicted, 1)
    recall = hit / np.maximum(support, 1)
    f1 = 2 * hit / np.maximum(predicted + support, 1)
    return precision, recall, f1, support


FEW = 64  # classes: up to here, columns over [C, N] are several times faster than torch's reductions along rows of C
LOGITS = say("logits [N, C]")
KINDS = 16  # classes: up to here each is a kind of its own in a scan


def losses_and_predictions(parts: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy [N], first index of the largest logit [N]) of finite logits [N, C], given as parts of their rows, and targets in
    0 .. C - 1. In float32, whatever the logits are."""
    if parts[0].shape[1] <= FEW and len(targets) and parts[0].device.type == "cpu":
        from .logits import look_once  # numba takes a moment to import

        every = [one.detach().view(torch.uint16) if one.dtype is torch.bfloat16 else one.detach().float() for one in parts]
        found = look_once([one.numpy() for one in every], targets.contiguous().numpy())
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    logits = torch.cat([one.float() for one in parts])
    if logits.shape[1] > FEW or not len(logits):
        return nn.functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(1)
    columns = logits.t().clone(memory_format=torch.contiguous_format)
    largest, classes = columns.amax(0), len(columns)
    below = columns - largest
    own = below.gather(0, targets[None])[0]
    place = torch.arange(classes, 0.0, -1.0, device=logits.device)[:, None]  # the first counts most
    best = columns.eq_(largest).mul_(place).amax(0)  # in floats, since comparing into bools is several times slower
    return below.exp_().sum(0).log_().sub_(own), classes - best.long()


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """[N]: the right class's logit less the largest of the others; below zero where the answer is wrong. logits [N, C], C > 1."""
    right = logits.float().gather(1, targets.reshape(-1, 1))
    others = logits.float().scatter(1, targets.reshape(-1, 1), -torch.inf)
    return right[:, 0] - others.amax(1)


@cache
def _number(one: int) -> Tensor:
    return torch.tensor(one)


class Classification(Metrics):
    """Columns: prediction, target int64 [N]; loss float [N]; classes, the number of logits."""

    def __init__(self) -> None:
        from . import logits, tallies  # compiled before an evaluation, whose pace is measured

        self.look, self.tallies = logits, tallies

    def columns(self, task: Task, outputs: Any, targets: Any) -> dict[str, Tensor]:
        parts = [expect(one, (2,), LOGITS) for one in (outputs if isinstance(outputs, Rows) else [outputs])]
        classes, rows = parts[0].shape[1], sum(map(len, parts))
        if targets.is_floating_point() and bool((odd := targets != targets.round()).any()):
            raise EvaluationError(
                say("a target is {value}; accepted: whole numbers from 0 to {last}", value=targets[odd].tolist()[0], last=classes - 1)
            )
        targets = targets.reshape(-1).long()
        if len(targets) != rows:
            raise EvaluationError(
                say(
                    "{outputs} outputs for {targets} targets; accepted: one row a sample",
                    outputs=rows,
                    targets=len(targets),
                )
            )
        low, high = self.tallies.bounds(targets.numpy(force=True))
        if len(targets) and not 0 <= low <= high < classes:
            raise EvaluationError(
                say(
                    "targets run from {low} to {high}, logits have {classes} classes; accepted: 0 to {last}",
                    low=low,
                    high=high,
                    classes=classes,
                    last=classes - 1,
                )
            )
        if task.classes is not None and len(task.classes) != classes:
            raise EvaluationError(
                say(
                    "the task names {named} classes, logits have {classes}; accepted: as many",
                    named=len(task.classes),
                    classes=classes,
                )
            )
        each, prediction = losses_and_predictions(parts, targets)
        loss = losses(task, outputs, targets, each, task.loss is nn.functional.cross_entropy)
        return {"prediction": prediction, "target": targets, **loss, "classes": _number(classes).expand(rows)}

    def apart(self, task: Task) -> bool:
        return task.loss is None or task.loss is nn.functional.cross_entropy

    @once
    def _answers(self, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        """(target, prediction)."""
        return columns["target"].numpy(force=True), columns["prediction"].numpy(force=True)

    @once
    def _matrix(self, columns: Columns) -> np.ndarray:
        """[C, C] counts; rows = target, columns = prediction."""
        target, prediction = self._answers(columns)
        classes = int(columns["classes"].numpy(force=True)[0])
        counts = np.zeros((classes, classes), np.int64)
        self.tallies.confusion_counts(target, prediction, counts)
        return counts

    @once
    def _scores(self, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return scores(self._matrix(columns))

    @once
    def _right(self, columns: Columns) -> np.ndarray:
        target, prediction = self._answers(columns)
        return np.asarray(prediction == target)

    def _agreement(self, before: Columns, after: Columns) -> tuple[int, int, int]:
        """(right before, right after, right in both)."""
        target, now = self._answers(after)
        return self.tallies.agreement(target, self._answers(before)[1], now)  # type: ignore[no-any-return]

    def _loss(self, columns: Columns, split: str, before: Columns | None, within: intervals.Within | None) -> Figure:
        """As :func:`loss_figure`."""
        if BATCH in columns:
            return loss_figure(columns, split, before, within)
        values = columns["loss"].numpy(force=True)
        centre, deviation = self.tallies.moments(values, None if before is None else before["loss"].numpy(force=True))
        return figure(centre, split, len(values), intervals.around(centre, deviation, len(values), within))

    def right(self, columns: Columns) -> Tensor | None:
        return torch.from_numpy(self._right(columns))

    def certainty(self, columns: Columns) -> Tensor | None:
        """The right class's log odds, without their sign, as the cross-entropy tells them; a loss of the user's own tells something else."""
        return None if BATCH in columns else columns["loss"].double().expm1().log().abs()

    def kinds(self, columns: Columns) -> Tensor | None:
        """The right classes: of many of them a scan's first look would hold too few each."""
        return columns["target"] if int(columns["classes"][0]) <= KINDS else None

    def main(self, before: Columns, after: Columns, split: str, within: intervals.Within | None = None) -> tuple[str, Figure, Figure]:
        n, (was, now, both) = len(after["target"]), self._agreement(before, after)
        interval = intervals.newcombe_of(was, now, both, n, within)
        return "accuracy", figure(now / n, split, n, intervals.wilson(now, n)), figure((now - was) / n, split, n, interval)

    @once
    def figures(self, columns: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        n, (hits, precision, recall, f1) = len(columns["target"]), self.tallies.macro(self._matrix(columns))
        return {
            "accuracy": figure(hits / n, split, n, intervals.wilson(hits, n, within)),
            "precision": figure(precision, split, n),
            "recall": figure(recall, split, n),
            "f1": figure(f1, split, n),
            "loss": self._loss(columns, split, None, within),
        }

    def changes(self, before: Columns, after: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        n, (was, now, both) = len(after["target"]), self._agreement(before, after)
        first, second = self.figures(before, split, within), self.figures(after, split, within)
        macro = {name: figure(second[name].value - first[name].value, split, n) for name in ("precision", "recall", "f1")}
        accuracy = figure((now - was) / n, split, n, intervals.newcombe_of(was, now, both, n, within))
        return {"accuracy": accuracy, **macro, "loss": self._loss(after, split, before, within)}

    def changed(self, before: Columns, after: Columns, indices: Tensor) -> list[Change]:
        where = (before["prediction"] != after["prediction"]).nonzero().flatten()
        rows = (one[where.to(one.device)].tolist() for one in (indices, before["prediction"], after["prediction"], after["target"]))
        out = []
        for index, was, now, target in zip(*rows, strict=True):
            kind: ChangeKind = "now right" if now == target else "now wrong" if was == target else "wrong differently"
            out.append(Change(index, kind, was, now, target))
        return sorted(out, key=lambda change: change.index)

    def flips(self, before: Columns, after: Columns) -> tuple[int, int]:
        was, now, both = self._agreement(before, after)
        return was - both, now - both

    def per_class(self, before: Columns, after: Columns, names: tuple[str, ...] | None) -> dict[str, ClassScore]:
        (p0, r0, f0, _), (p1, r1, f1, support) = self._scores(before), self._scores(after)
        labels = names if names and len(names) == len(p1) else tuple(str(i) for i in range(len(p1)))
        rows = zip(*(column.tolist() for column in (support, p1, r1, f1, p0, r0, f0)), strict=True)
        return {label: ClassScore(label, int(n), *values) for label, (n, *values) in zip(labels, rows, strict=True)}

    def confusion(self, before: Columns, after: Columns) -> tuple[Any, ...]:
        return tuple(tuple(map(tuple, self._matrix(columns).tolist())) for columns in (before, after))
