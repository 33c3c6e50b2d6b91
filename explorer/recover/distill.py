"""Distillation in one call, and whether it was worth it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import Cancelled
from ..core.message import say
from ..core.recipe import Recipe
from ..core.training import Event, Note
from ..evaluate.paired import paired
from ..models.subject import Subject, checked
from .augment import Augment
from .distillation import TEMPERATURE, Distillation
from .finetune import merged, train
from .loop import Training
from .schedules import Schedule
from .settings import Settings


def distill(
    subject: Subject,
    recipe: Recipe | None = None,
    settings: Settings | None = None,
    *,
    teacher: Subject | None = None,
    student: Subject | nn.Module | None = None,
    alpha: float | None = None,
    temperature: float = TEMPERATURE,
    match: str | None = None,
    features: Sequence[str] | Mapping[str, str] = (),
    beta: float = 1.0,
    compare: bool = True,
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
    """Train what the recipe left to answer as a teacher does, and return it as a new :class:`Subject` with its parent
    and history.

    The loss is (1 - α) · the task's + α · the distance of the outputs + β · that of hidden ``features``; see
    :class:`Distillation` for alpha, temperature, match, features and beta. teacher: ``subject`` itself, or any
    subject with the same outputs. student: in place of the pruned subject, a smaller model of your own (a module
    for the same task, or a subject), to which the recipe then applies. With alpha=1 no label is needed.

    compare: train the same start once more with the task's own loss, the same settings and seed, and say in the
    history's last note what distillation gained over it on validation, with its paired 95 % interval: "no gain"
    where that does not lie on the better side. ``progress`` and ``events`` are told of both trainings. Everything
    else as in :func:`explorer.finetune`. Raises :class:`TaskError` (outputs or features whose shapes differ, no
    loss with alpha < 1) and what finetune raises, before anything is trained.
    """
    chosen = merged(settings, changes)
    checked(subject)
    start = subject if student is None else student
    if not isinstance(start, Subject):
        start = Subject(start, subject.task, f"{subject.name}-student")
        start.task = subject.task  # an agreement is one with the original, not with the student as it came
    objective = Distillation(
        teacher if teacher is not None else subject,
        alpha=alpha,
        temperature=temperature,
        match=match,
        features=features,
        beta=beta,
    )
    more: dict[str, Any] = dict(schedule=schedule, augment=augment, device=device, cancel=cancel)
    training = Training(start, recipe, chosen, objective=objective, checkpoint=checkpoint, **more)
    rival = Training(start, recipe, chosen, **more) if compare and start.task.loss is not None else None
    total = training.run.steps * (2 if rival else 1)
    told = (lambda done, _: progress(done, total)) if progress is not None else None
    found = train(training, progress=told, events=events, name=name)
    if rival is None or not training.complete:
        return found
    after = (lambda done, _: progress(training.run.steps + done, total)) if progress is not None else None
    try:
        plain = train(rival, progress=after, events=events)
    except Cancelled:
        return found
    if rival.complete:
        note = gain(found, plain, device=device)
        if events is not None:
            events(note)
        entry = found.history[-1]
        found.history = (*found.history[:-1], replace(entry, notes=(*entry.notes, note)))
    return found


def gain(distilled: Subject, plain: Subject, *, device: str | torch.device | None = None) -> Note:
    """What distillation gained over plain fine-tuning, on validation.

    values: metric, distilled, plain, change (distilled less plain), low, high (paired 95 %, None where there is
    none), better (bool), seconds of both; plain_evaluations (those of this comparison, too) and plain_energy, which
    the history's entry of the distillation leaves out.
    """
    found = paired(plain, distilled, device=device)
    before, after, metric = found.before, found.after, found.main
    change = found.changes[metric]
    lower = metric in distilled.task.lower_is_better
    end = change.high if lower else change.low
    edge = change.value if end is None else end
    better = bool(edge < 0 if lower else edge > 0)
    values: dict[str, Any] = {
        "metric": metric, "distilled": after[metric].value, "plain": before[metric].value, "change": change.value, "low": change.low,
        "high": change.high, "better": better, "seconds": distilled.history[-1].seconds, "plain_seconds": plain.history[-1].seconds,
        "plain_evaluations": plain.history[-1].evaluations + 2, "plain_energy": plain.history[-1].energy,
    }  # fmt: skip
    told = {key: values[key] for key in ("metric", "distilled", "plain", "change")}
    if better:
        text = say(
            "distilled: {metric} {distilled:.4f}, plain fine-tuning {plain:.4f}: a gain of {change:+.4f}", **told
        )
    else:
        text = say(
            "distilled: {metric} {distilled:.4f}, plain fine-tuning {plain:.4f}: no gain ({change:+.4f})", **told
        )
    return Note(distilled.history[-1].epochs, distilled.history[-1].steps, text, values)
