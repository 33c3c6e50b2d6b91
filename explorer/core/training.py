"""What is told while a model is trained, and what stays on record of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .recipe import Recipe

if TYPE_CHECKING:
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
    where it was cancelled and this is the best by then. energy: joules, where a counter measured them, as energy_source says.
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
    energy_source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(replace(self, recipe=Recipe())) | {
            "recipe": json.loads(self.recipe.to_json()),
            "settings": dict(self.settings),
            "curve": [asdict(one) for one in self.curve],
            "notes": [asdict(one) | {"text": str(one.text)} for one in self.notes],
        }


@dataclass(frozen=True)
class Cost:
    """What it took to come from the first original to a subject, measured, summed over its history. evaluations: passes over the validation split. energy: joules,
    None unless every step of the history measured them; energy_source: by what."""

    epochs: int
    steps: int
    seconds: float
    evaluations: int
    energy: float | None = None
    energy_source: str = ""


def cost(history: Sequence[Entry]) -> Cost | None:
    """The sum over a history; None without one."""
    if not history:
        return None
    known = [one.energy for one in history if one.energy is not None]
    every = len(known) == len(history)
    return Cost(
        sum(one.epochs for one in history), sum(one.steps for one in history), sum(one.seconds for one in history),
        sum(one.evaluations for one in history), sum(known) if every else None,
        "; ".join(dict.fromkeys(one.energy_source for one in history)) if every else "",
    )  # fmt: skip
