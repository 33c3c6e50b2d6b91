"""Outputs of a batch -> columns with one value a sample; what cannot be judged is refused, with the sample at fault."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import EvaluationError, ExplorerError, cause
from ..core.message import Message, say
from ..models.subject import Subject
from ..models.trial import tensors
from .data import SplitData
from .metrics import Rows, metrics_of


class Judge:
    """The metrics of a subject's task."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.metrics = metrics_of(subject.task.kind)
        self.apart = self.metrics.apart(subject.task)  # whatever else is judged with a sample

    def columns(self, outputs: Any, targets: Any, data: SplitData, start: int, stop: int) -> dict[str, Tensor]:
        """The metrics' columns, each with one value a sample."""

        def where() -> Message:
            return say("{split} samples {first}...", split=data.split, first=data.order[start:stop][:3].tolist())

        try:
            found = self.metrics.columns(self.subject.task, outputs, targets)
            columns = {key: column.cpu() for key, column in found.items()}
        except EvaluationError as error:
            raise EvaluationError(
                say("{subject}: {where}: {error}", subject=self.subject.name, where=where(), error=error.message)
            ) from error
        except ExplorerError:
            raise
        except Exception as error:
            failed = say("{subject}: score or loss failed on {where}", subject=self.subject.name, where=where())
            raise EvaluationError(say("{failed}; accepted: functions that take the model's outputs and the targets ({cause})", failed=failed, cause=cause(error))) from error
        for name, column in columns.items():
            if column.ndim == 0 or column.shape[0] != stop - start:
                raise EvaluationError(
                    say(
                        "{subject}: {score!r} has shape {shape} for {samples} samples of {split}; accepted: [{samples}], one "
                        "value a sample, or a (numerator, denominator) pair of these",
                        subject=self.subject.name,
                        score=name.rstrip("/"),
                        shape=tuple(column.shape),
                        samples=stop - start,
                        split=data.split,
                    )
                )
        return columns

    def sound_columns(self, parts: Rows, targets: Any, data: SplitData, start: int, stop: int) -> dict[str, Tensor]:
        """:meth:`columns` of outputs that :meth:`refuse_nan` has not seen: where each sample is judged apart, its loss tells."""
        columns = self.columns(parts, targets, data, start, stop)
        if not math.isfinite(float(np.add.reduce(columns["loss"].numpy()))):
            for outputs in parts:
                self.refuse_nan(outputs, data, start)
                start += len(outputs)
        return columns

    def refuse_nan(self, outputs: object, data: SplitData, start: int) -> None:
        """Say which sample's output is no number, or one of which no loss can be computed, before a score can be blamed for it."""
        for tensor in tensors(outputs):
            if cmath.isfinite(tensor.sum().item()) or not bool((bad := self._unfit(tensor)).any()):
                continue
            rows = len(tensor) if tensor.ndim else 1
            row = int(bad.reshape(rows, -1).any(1).nonzero()[0])
            raise EvaluationError(
                say(
                    "{subject}: the output holds {what}, first at sample {at} of {split}; accepted: finite outputs",
                    subject=self.subject.name,
                    what="NaN" if bool(torch.isnan(tensor.reshape(rows, -1)[row]).any()) else "inf",
                    at=int(data.order[start + row]) if start + row < data.total else start,
                    split=data.split,
                )
            )

    def _unfit(self, values: Tensor) -> Tensor:
        """Of outputs, where they are NaN or infinite. A logit of minus infinity rules a class out; a score of the user's own may want anything else."""
        kind = self.subject.task.kind
        if kind == "regression":
            return ~torch.isfinite(values)
        return torch.isnan(values) | torch.isposinf(values) if kind in ("classification", "language_model") else torch.isnan(values)
