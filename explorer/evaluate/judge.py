"""Outputs of a batch -> columns with one value a sample; what cannot be judged is refused, with the sample at fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.errors import EvaluationError, ExplorerError
from ..models.subject import Subject
from ..models.trial import tensors
from .data import SplitData
from .metrics import metrics_of


class Judge:
    """The metrics of a subject's task."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.metrics = metrics_of(subject.task.kind)

    def columns(self, outputs: Any, targets: Any, data: SplitData, start: int, stop: int) -> dict[str, Tensor]:
        """The metrics' columns, each with one value a sample."""
        where = f"{data.split} samples {data.order[start:stop][:3].tolist()}..."
        try:
            found = self.metrics.columns(self.subject.task, outputs, targets)
            columns = {key: column.cpu() for key, column in found.items()}
        except EvaluationError as error:
            raise EvaluationError(f"{self.subject.name}: {where}: {error}") from error
        except ExplorerError:
            raise
        except Exception as error:
            failed = f"{self.subject.name}: score or loss failed on {where}"
            raise EvaluationError(f"{failed}: {type(error).__name__}: {error}") from error
        for name, column in columns.items():
            if column.ndim == 0 or len(column) != stop - start:
                raise EvaluationError(
                    f"{self.subject.name}: {name.rstrip('/')!r} has shape {tuple(column.shape)} for {stop - start} samples of "
                    f"{data.split}; accepted: [{stop - start}], one value a sample, or a (numerator, denominator) pair of these"
                )
        return columns

    def refuse_nan(self, outputs: object, data: SplitData, start: int) -> None:
        """Say which sample's output is not a number, before a score can be blamed for it."""
        for tensor in tensors(outputs):
            if not bool(torch.isfinite(tensor.sum())) and bool(torch.isnan(tensor).any()):
                row = int(torch.isnan(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]).any(1).nonzero()[0])
                at = int(data.order[start + row]) if start + row < data.total else start
                raise EvaluationError(
                    f"{self.subject.name}: the output holds NaN, first at sample {at} of {data.split}; "
                    "accepted: finite outputs"
                )
