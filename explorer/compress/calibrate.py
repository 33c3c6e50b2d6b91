"""Running a compressed model on train samples to see what its weights are multiplied by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..core.errors import Cancelled, RecipeError, failed
from ..core.message import say
from ..models.quantized import Watcher
from ..models.sites import refusal, rounded
from ..models.subject import Subject
from ..models.task import to_device
from .build import build
from .plan import Plan
from .statistics import Statistics

BATCH, SEED = 16, 0
Progress = Callable[[int, int], object] | None
Cancel = Callable[[], bool] | None


def sites(subject: Subject) -> dict[str, str | None]:
    """{layer: None, or why its input cannot be rounded}."""
    key = ("sites", subject.version)
    return subject.memo.get(key, lambda: {one.name: refusal(subject.module, one.name) for one in subject.layers})


def chosen_samples(subject: Subject, samples: int) -> list[int]:
    """Indices into the train split: ``samples`` different ones (all where there are fewer), drawn with seed 0.

    Raises :class:`RecipeError` where there is no train split, or an empty one.
    """
    data = subject.task.splits.get("train")
    if data is None or not len(data):
        raise RecipeError(
            say(
                "{subject}: ranges of activations are calibrated on the train split, and there is none or it is empty; "
                "accepted: Task(train=...), or clip=(low, high)",
                subject=subject.name,
            )
        )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    return [int(i) for i in order[:samples]]


def calibrate(
    subject: Subject, plan: Plan, samples: int, progress: Progress = None, cancel: Cancel = None
) -> Mapping[str, Statistics]:
    """{layer: what its weight was multiplied by}, of every layer that was reached, in the model of ``plan``.

    The model is pruned and its weights are rounded, its activations are not. Two passes over the samples: extremes, then
    histograms. ``progress(done, total)`` in samples; ``cancel()`` is asked before each batch. Kept by content.
    Raises :class:`RecipeError` (no train samples), :class:`EvaluationError` (not finite, or forward fails), :class:`Cancelled`.
    """
    bare = plan.without_inputs()
    key = ("calibration", subject.version, bare.digest, samples)
    return subject.memo.get(key, lambda: _calibrate(subject, bare, samples, progress, cancel))


@torch.no_grad()
def _calibrate(
    subject: Subject, bare: Plan, samples: int, progress: Progress, cancel: Cancel
) -> Mapping[str, Statistics]:
    module = build(subject, bare)
    there = dict(module.named_parameters(remove_duplicate=False))  # blocks may have gone whole
    found = {name: Statistics(name) for name, reason in sites(subject).items() if reason is None and name in there}
    with rounded(module, {name: Watcher(one.see) for name, one in found.items()}):
        for _ in run(subject, module, samples, progress, cancel, 0, 2):
            for one in found.values():
                one.end_batch()
    found = {name: one for name, one in found.items() if one.lows}
    with rounded(module, {name: Watcher(one.count) for name, one in found.items()}):
        for _ in run(subject, module, samples, progress, cancel, 1, 2):
            pass
    return found


def run(
    subject: Subject,
    module: nn.Module,
    samples: int,
    progress: Progress,
    cancel: Cancel,
    which: int = 0,
    passes: int = 1,
    batch: int = BATCH,
) -> Iterator[None]:
    """Run ``module`` over the calibration samples, in batches; yields after each. ``which`` of how many passes this is."""
    indices = chosen_samples(subject, samples)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    for start in range(0, len(indices), batch):
        done = which * len(indices) + start
        if cancel is not None and cancel():
            raise Cancelled(say("{subject}: calibration cancelled after {n} samples", subject=subject.name, n=done))
        inputs: Any = subject.task.batch("train", indices[start : start + batch])[0]
        try:
            subject.task.forward(module, to_device(inputs, device))
        except Exception as error:
            first = indices[start : start + 3]
            raise failed(say("{subject}: forward failed on train samples {first}...", subject=subject.name, first=first), error) from error
        yield
        if progress is not None:
            progress(min(done + batch, (which + 1) * len(indices)), passes * len(indices))
