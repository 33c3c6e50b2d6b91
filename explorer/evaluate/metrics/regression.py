"""R2, RMSE, MAE, loss (mean squared error). As scikit-learn's r2_score with uniform average over outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.errors import EvaluationError
from ...core.message import say
from ...core.report import Change, Figure
from ...models.task import Task
from .. import intervals
from . import Columns, Metrics, expect, figure, largest_changes, loss_figure, losses, mean_figure, once


def r2(target: Tensor, prediction: Tensor) -> float:
    """1 - residual / total sum of squares, averaged over the outputs [N, D]; a constant target scores 1 or 0."""
    target, prediction = target.double(), prediction.double()
    residual = ((target - prediction) ** 2).sum(0)
    total = ((target - target.mean(0)) ** 2).sum(0)
    scored = torch.where(total > 0, 1 - residual / total.clamp(min=1e-300), (residual == 0).double())
    return scored.mean().item()


class Regression(Metrics):
    """Columns: prediction, target float [N, D]; loss float [N]."""

    def columns(self, task: Task, outputs: Any, targets: Any) -> dict[str, Tensor]:
        found = expect(outputs, (1, 2), say("predictions [N] or [N, D]")).float()
        prediction = found.reshape(len(found), -1)
        target = targets.reshape(len(targets), -1).to(prediction)
        if prediction.shape != target.shape:
            raise EvaluationError(
                say(
                    "predictions {predictions}, targets {targets}; accepted: equal shapes",
                    predictions=tuple(prediction.shape),
                    targets=tuple(target.shape),
                )
            )
        if not bool(target.isfinite().all()):
            raise EvaluationError(say("a target is {value}; accepted: finite numbers", value=target[~target.isfinite()].tolist()[0]))
        each = ((prediction - target) ** 2).mean(1)
        default = getattr(task.loss, "__qualname__", "").startswith("Task.regression")
        return {"prediction": prediction, "target": target, **losses(task, outputs, targets, each, default)}

    @once
    def figures(self, columns: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        target, prediction = columns["target"], columns["prediction"]
        n = len(target)
        gap = (prediction - target).double()
        return {
            "r2": figure(r2(target, prediction), split, n),
            "rmse": figure((gap**2).mean().sqrt().item(), split, n),
            "mae": mean_figure(gap.abs().mean(1), split, within),
            "loss": loss_figure(columns, split, None, within),
        }

    def changes(self, before: Columns, after: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        first, second = self.figures(before, split, within), self.figures(after, split, within)
        out = {name: figure(second[name].value - first[name].value, split, len(after["loss"])) for name in second}
        errors = [(c["prediction"] - c["target"]).abs().mean(1).double() for c in (before, after)]
        out["mae"] = mean_figure(errors[1] - errors[0], split, within)
        out["loss"] = loss_figure(after, split, before, within)
        return out

    def changed(self, before: Columns, after: Columns, indices: Tensor) -> list[Change]:
        if before["prediction"].shape[1] == 1:
            was, now = before["prediction"][:, 0], after["prediction"][:, 0]
            return largest_changes(was, now, indices, after["target"][:, 0])
        was, now = ((c["prediction"] - c["target"]).abs().mean(1) for c in (before, after))
        return largest_changes(was, now, indices, None)
