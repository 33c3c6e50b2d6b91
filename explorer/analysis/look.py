"""How criteria look at data: how many training samples, in which order, on which device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import Cancelled, EvaluationError
from ..core.message import say
from ..models.device import pick
from ..models.strata import labels, stratified_order
from ..models.subject import Subject
from ..models.task import to_device

CHUNK = 128  # samples that go through a model at once


@dataclass(frozen=True)
class Look:
    """samples of the train split (stratified, at most all), the seed of their order; ``progress(done, total)`` is told,
    ``cancel()`` asked between chunks; device: where to compute, None for the fastest."""

    samples: int = 1024
    seed: int = 0
    progress: Callable[[int, int], None] | None = None
    cancel: Callable[[], bool] | None = None
    device: str | torch.device | None = None

    @property
    def key(self) -> tuple[int, int]:
        """What results depend on."""
        return self.samples, self.seed

    @property
    def where(self) -> torch.device:
        """The device."""
        return pick(self.device)

    def told(self, done: int, total: int, what: str) -> None:
        """Between two chunks: report, and stop if asked to. Raises :class:`Cancelled`."""
        if self.cancel is not None and self.cancel():
            raise Cancelled(say("{what}: cancelled after {done} of {total}", what=what, done=done, total=total))
        if self.progress is not None:
            self.progress(done, total)


def order(subject: Subject, samples: int, seed: int) -> list[int]:
    """Which samples of the train split are looked at: each label in its share."""

    def find() -> list[int]:
        data = subject.task.dataset("train")
        known = labels(subject.task, "train", data, None)
        return [int(i) for i in stratified_order(known, len(data), seed)]

    return subject.memo.get(("train order", seed), find)[: max(samples, 1)]


def chunks(subject: Subject, look: Look, size: int, dtype: torch.dtype | None = None) -> Iterator[tuple[Any, Any, int]]:
    """(inputs, targets, number of samples) on the look's device, in the look's order."""
    chosen = order(subject, look.samples, look.seed)
    for start in range(0, len(chosen), size):
        look.told(start, len(chosen), subject.name)
        part = chosen[start : start + size]
        inputs, targets = subject.task.batch("train", part)
        yield to_device(inputs, look.where, dtype), to_device(targets, look.where), len(part)
    look.told(len(chosen), len(chosen), subject.name)


def loss_of(subject: Subject, outputs: Any, targets: Any) -> Tensor:
    """The task's loss as one number; a (numerator, denominator) pair is a ratio of sums."""
    assert subject.task.loss is not None
    value = subject.task.loss(outputs, targets)
    if isinstance(value, (tuple, list)):
        value = value[0].sum() / value[1].sum()
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise EvaluationError(
            say(
                "{name}: loss(outputs, targets) gave {found}; accepted: a scalar tensor",
                name=subject.name,
                found=type(value).__name__,
            )
        )
    return value.reshape(())
