"""Fine-tuning in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..core.errors import SettingsError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.training import Event, Step
from ..models.subject import Subject
from .augment import Augment
from .loop import Training
from .schedules import Schedule
from .settings import Settings


def finetune(
    subject: Subject,
    recipe: Recipe | None = None,
    settings: Settings | None = None,
    *,
    schedule: str | Mapping[str, Any] | Schedule = "one-shot",
    augment: Augment | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], object] | None = None,
    cancel: Callable[[], bool] | None = None,
    events: Callable[[Event], object] | None = None,
    checkpoint: str | Path | None = None,
    name: str | None = None,
    **changes: Any,
) -> Subject:
    """Train what the recipe left, and return it as a new :class:`Subject` with its parent and history.

    Units are removed and stay so, pruned weights are held at zero in every step, quantized ones are rounded in every forward pass: straight
    through, or as a codebook whose values are trained. The module of the result is the final one, zeros, levels and all, from the epoch that was best on
    ``validation``; its ``recipe`` says which of its zeros are pruned and which levels it lies on, and changes nothing. Weights of float16 and
    bfloat16 keep their type, and are moved as float32 copies (Micikevicius et al. 2018, arXiv 1710.03740, section 3.1).

    settings: :class:`Settings`; changes: some of these by name, as ``epochs=5, lr=1e-3, seed=1``. schedule: when what is pruned, a name of ``schedules()`` or
    one of these with settings of its own ({"name": "gradual", "until": 0.5}). augment: a function that changes a batch's
    inputs, labels staying right, as :class:`explorer.ShiftFlip`. ``progress(done, total)`` in steps; ``events(event)`` is told every Step, Epoch and Note;
    ``cancel()`` ends it with the best state so far. checkpoint: a file to go on from after a crash; removed at the end. Raises
    :class:`TaskError` (no train split, no loss), :class:`SettingsError`, :class:`RecipeError`, while training :class:`TrainingError`, and where it
    was cancelled before the first step, :class:`Cancelled`.
    """
    return train(
        Training(
            subject, recipe, merged(settings, changes), schedule=schedule, augment=augment, device=device, cancel=cancel,
            checkpoint=checkpoint,
        ),
        progress=progress, events=events, name=name,
    )  # fmt: skip


def merged(settings: Settings | None, changes: dict[str, Any]) -> Settings:
    """Settings with changes by name."""
    if settings is not None and not isinstance(settings, Settings):
        raise SettingsError(say("settings is {type}; accepted: an explorer.Settings", type=type(settings).__name__))
    return (settings if settings is not None else Settings()).but(**changes)


def train(
    training: Training,
    *,
    progress: Callable[[int, int], object] | None = None,
    events: Callable[[Event], object] | None = None,
    name: str | None = None,
) -> Subject:
    """Run a training to its end, and return its subject."""
    for event in training.events():
        if events is not None:
            events(event)
        if progress is not None and isinstance(event, Step):
            progress(event.step, event.steps)
    found = training.subject(name)
    if training.file is not None and training.complete:
        training.file.unlink(missing_ok=True)
    return found
