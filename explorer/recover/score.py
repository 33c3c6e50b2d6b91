"""Judging a module on a split while it is trained: the task's own metrics over all samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import Cancelled
from ..core.message import say
from ..core.report import Figure
from ..evaluate.data import SplitData
from ..evaluate.judge import Judge
from ..models.device import exact
from ..models.subject import Subject
from ..models.task import copied

BATCH = 256


class Scorer:
    """The samples of a split, kept on the device; ``scorer(module)`` -> the figures of the module in eval mode."""

    def __init__(self, subject: Subject, device: torch.device, split: str = "validation") -> None:
        self.subject, self.device, self.judge = subject, device, Judge(subject)
        self.data = SplitData(subject.task, split, device)
        self.batch = BATCH
        self.passes = 0
        self.cancel: Callable[[], bool] | None = None  # asked before each batch
        self.progress: Callable[[int, int], object] | None = None  # told after each: samples done, of all
        self.turn: Callable[[], AbstractContextManager[None]] = (
            nullcontext  # of a device that others use, too: one for each batch
        )

    def __call__(self, module: nn.Module) -> dict[str, Figure]:
        return self.judge.metrics.figures(self.columns(module), self.data.split)

    @torch.no_grad()
    def columns(self, module: nn.Module) -> dict[str, Tensor]:
        """One value a sample of what the metrics are made from. Raises :class:`Cancelled`."""
        self.passes += 1
        training = {name: one.training for name, one in module.named_modules()}
        module.eval()
        pieces: list[dict[str, Any]] = []
        start = 0
        try:
            while start < self.data.total:
                if self.cancel is not None and self.cancel():
                    raise Cancelled(
                        say(
                            "{subject}: cancelled after {n} of {total} samples",
                            subject=self.subject.name,
                            n=start,
                            total=self.data.total,
                        )
                    )
                stop = min(start + self.batch, self.data.total)
                try:
                    inputs, targets = self.data.chunk(start, stop)
                    with self.turn(), exact(self.device):
                        outputs = self.subject.task.forward(module, copied(inputs))  # which it may write to
                except torch.OutOfMemoryError:
                    if self.batch == 1:
                        raise
                    self.batch //= 2
                    continue
                self.judge.refuse_nan(outputs, self.data, start)
                pieces.append(self.judge.columns(outputs, targets, self.data, start, stop))
                start = stop
                if self.progress is not None:
                    self.progress(start, self.data.total)
        finally:
            for name, one in module.named_modules():
                one.training = training[name]
        return {key: torch.cat([one[key] for one in pieces]) for key in pieces[0]}

    def better(self, new: dict[str, Figure], old: dict[str, Figure] | None) -> bool:
        """Whether the main metric is better; where it is equal, the loss."""
        if old is None:
            return True
        lower = self.subject.task.lower_is_better
        for name in dict.fromkeys((next(iter(new)), *(("loss",) if "loss" in new else ()))):
            a, b = new[name].value, old[name].value
            if a != b and not (a != a and b != b):
                if b != b:
                    return True
                return a < b if name in lower else a > b
        return False
