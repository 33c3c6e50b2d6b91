"""How much training fits into a given time on this machine: timed on a few steps, thrown away afterwards."""

from __future__ import annotations

import time
from typing import Any

from ..core.recipe import Recipe
from ..models.subject import Subject
from .loop import Training
from .settings import Settings

TIMED, MOST = 4, 100  # steps that are timed; epochs at most, however fast they are
LEAST = 8  # steps, however slow they are
STEPS = 16  # an epoch has at least so many where the train split allows it, so that little data is learned from, too
SMALLEST = 16  # batch


def within(
    seconds: float, subject: Subject, recipe: Recipe, settings: Settings | None = None, **how: Any
) -> tuple[Settings, float]:
    """(``settings`` with the epochs and samples that fit ``seconds``, the seconds that are expected).

    Where not even one epoch fits, fewer samples are seen. how: schedule, objective, device, as of :class:`Training`, which says what
    cannot be trained. The measured pace decides the settings; the settings alone decide the result.
    """
    settings = settings if settings is not None else Settings()
    settings = settings.but(batch=batch_of(settings.batch, len(subject.task.splits.get("train", ()))))
    training = Training(
        subject, recipe, settings.but(epochs=MOST, patience=None), **how
    )  # one epoch is too few for some schedules
    run, count = training.run, training.count
    training.schedule.begin(run)
    run.epoch = 1
    run.hold.refit(all=True)
    taken: list[float] = []
    for batch in training._batches(count)[: TIMED + 1]:
        began = time.perf_counter()
        run.step += 1
        training.stepper(batch, training._rate())
        taken.append(time.perf_counter() - began)
    began = time.perf_counter()
    run.figures()
    judged = time.perf_counter() - began
    step = sorted(taken[1:] or taken)[len(taken[1:] or taken) // 2]  # the first one warms up
    steps = -(-count // settings.batch)
    epoch = steps * step + judged
    if epoch <= seconds:
        epochs = min(MOST, int((seconds - judged) // epoch) or 1)  # the damaged model is judged, too
        return settings.but(epochs=epochs), epochs * epoch + judged
    fit = min(steps, max(LEAST, int((seconds - 2 * judged) / step)))
    return settings.but(epochs=1, samples=min(count, fit * settings.batch)), fit * step + 2 * judged


def batch_of(most: int, samples: int) -> int:
    """``most``, halved until an epoch has enough steps."""
    batch = most
    while batch // 2 >= SMALLEST and samples < STEPS * batch:
        batch //= 2
    return batch
