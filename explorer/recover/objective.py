"""What a training minimizes: by default the task's own loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import ExplorerError, TaskError, TrainingError, cause
from ..core.message import say

if TYPE_CHECKING:
    from .run import Run


class Objective:
    """The task's loss. A subclass replaces :meth:`__call__`, and may refuse in :meth:`begin` before anything is trained."""

    what = "fine-tuning"

    def begin(self, run: Run) -> None:
        """Before training. Raises :class:`TaskError` where it could not be computed."""
        if run.subject.task.loss is None:
            raise TaskError(
                say(
                    "{subject}: the task has no loss, so there is nothing to train for; accepted: Task(loss=...), or explorer.distill, which "
                    "needs no labels",
                    subject=run.subject.name,
                )
            )

    def __call__(self, run: Run, inputs: Any, targets: Any, indices: list[int]) -> Tensor:
        """The mean loss of a batch, a scalar to differentiate. indices: of its samples in the train split."""
        assert run.subject.task.loss is not None
        return run.subject.task.loss(run.forward(inputs), targets)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the history and to tell checkpoints apart."""
        return {}


def refuse(error: Exception, subject: str, first: list[int]) -> ExplorerError:
    """What went wrong in the user's forward or loss, as one message."""
    return TrainingError(
        say(
            "{subject}: forward or loss failed on train samples {first}...; accepted: a batch that both can take ({cause})",
            subject=subject,
            first=first[:3],
            cause=cause(error),
        )
    )


def scalar(loss: Any, subject: str) -> Tensor:
    """The loss as a scalar tensor that can be differentiated, or one clear message."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        got = say("shape {shape}", shape=tuple(loss.shape)) if isinstance(loss, Tensor) else type(loss).__name__
        raise TaskError(
            say("{subject}: the loss is {got}; accepted: a scalar floating tensor", subject=subject, got=got)
        )
    if not loss.requires_grad and torch.is_grad_enabled():
        raise TaskError(
            say(
                "{subject}: no parameter that is trained moves the loss; accepted: parameters with requires_grad",
                subject=subject,
            )
        )
    return loss.reshape(())
