"""What is told while a model is trained, and what stays on record of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .recipe import Recipe
from .report import Figure


@dataclass(frozen=True)
class Step:
    """A step of an optimizer. step, steps: this one and all, from 1. loss: of its batch, penalties included. lr: the learning rate.
    sparsity: 1 - non-zero weights / weights of the model that it all began from. seconds, left: spent, and to be expected."""

    epoch: int
    step: int
    steps: int
    loss: float
    lr: float
    sparsity: float
    seconds: float
    left: float


@dataclass(frozen=True)
class Epoch:
    """A pass over the train split, judged on validation. epoch 0: before any training, the damaged model.

    loss: the mean over the epoch's batches (None for epoch 0). figures: the task's metrics with their intervals; metric: the main
    one's name. settled: the model is as sparse as was asked for, so this epoch may be kept. best: it is the best of those so far.
    """

    epoch: int
    epochs: int
    step: int
    loss: float | None
    figures: Mapping[str, Figure]
    metric: str
    sparsity: float
    lr: float
    seconds: float
    left: float
    settled: bool = True
    best: bool = False

    @property
    def figure(self) -> Figure:
        """The main metric."""
        return self.figures[self.metric]


@dataclass(frozen=True)
class Note:
    """A decision on the way, in words: a unit that went, a batch that was halved."""

    epoch: int
    step: int
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


Event = Step | Epoch | Note


@dataclass(frozen=True)
class Entry:
    """How a subject came from its parent.

    what: "fine-tuning", "distillation", "recalibration" or "taken back". recipe: as applied to the parent. parent: its name, digest: its
    content. settings: plain values, enough to do it again. evaluations: passes over the validation split. before: the parent's
    figures on validation, damaged: with the recipe applied, after: at the end. curve: the epochs; notes: decisions. complete: False
    where it was cancelled and this is the best by then. energy: joules, where they were measured.
    """

    what: str
    recipe: Recipe
    parent: str
    digest: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    before: Mapping[str, Figure] = field(default_factory=dict)
    damaged: Mapping[str, Figure] = field(default_factory=dict)
    after: Mapping[str, Figure] = field(default_factory=dict)
    metric: str = ""
    curve: tuple[Epoch, ...] = ()
    notes: tuple[Note, ...] = ()
    complete: bool = True
    device: str = ""
    energy: float | None = None
