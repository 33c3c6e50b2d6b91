"""Does a file answer as the simulation that was looked at? Predictions and outputs, over a whole split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..compress.apply import effective_weights
from ..compress.plan import Plan
from ..core.errors import Cancelled
from ..core.message import say
from ..core.report import Figure
from ..evaluate.engine import engine
from ..models.device import pick
from ..models.subject import Subject
from ..models.task import copied
from ..models.trial import tensors

LEAST = 0.99  # of a classifier's predictions must be the simulation's


@dataclass(frozen=True)
class Agreement:
    """A file beside its simulation on the first ``n`` samples of a split, all measured.

    same: fraction of equal predictions (of classes, or of next tokens); None without classes. error: root mean square of
    the outputs' differences over that of the simulation's outputs. figures: the file's own metrics. simulated: the
    simulation's on the same samples.
    """

    split: str
    n: int
    same: float | None
    error: float
    figures: Mapping[str, Figure]
    simulated: Mapping[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "split": self.split,
            "n": self.n,
            "same_predictions": self.same,
            "relative_error": self.error,
            "metrics": {name: figure.value for name, figure in self.figures.items()},
            "simulated": {name: figure.value for name, figure in self.simulated.items()},
        }


@torch.inference_mode()
def compare(
    subject: Subject,
    plan: Plan,
    module: nn.Module,
    split: str = "validation",
    cancel: Callable[[], bool] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Agreement:
    """``module`` (on the CPU, called as the subject's own) beside the evaluation of ``plan`` on all samples of a split."""
    run = engine(subject, pick("cpu"))
    data, task = run.data(split), subject.task
    columns: tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]] = ([], [])
    hits = answers = start = 0
    square = power = 0.0
    for stop in data.looks:
        if cancel is not None and cancel():
            raise Cancelled(
                say("{name}: cancelled after {n} of {total} samples", name=subject.name, n=start, total=data.total)
            )
        inputs, targets = data.chunk(start, stop)
        with run.replica.weights(effective_weights(subject, plan), plan.norms, plan.roundings()) as masked:
            expected = task.forward(masked, copied(inputs))  # which it may write to
        found = task.forward(module, copied(inputs))
        for parts, outputs in zip(columns, (found, expected), strict=True):
            parts.append(run.metrics.columns(task, outputs, targets))
        for a, b in zip(tensors(expected), tensors(found), strict=True):
            square += float(((a.double() - b.double()) ** 2).sum())
            power += float((a.double() ** 2).sum())
        if task.kind in ("classification", "language_model"):
            same = tensors(expected)[0].argmax(-1) == tensors(found)[0].argmax(-1)
            hits, answers = hits + int(same.sum()), answers + same.numel()
        start = stop
        if progress is not None:
            progress(stop, data.total)
    joined = [{key: torch.cat([part[key] for part in parts]) for key in parts[0]} for parts in columns]
    figures, simulated = (run.metrics.figures(one, split) for one in joined)
    error = (square / power) ** 0.5 if power else float(square > 0)
    return Agreement(split, data.total, hits / answers if answers else None, error, figures, simulated)
