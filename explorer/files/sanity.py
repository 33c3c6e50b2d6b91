"""Is the data what the model was trained on? The original's score, the balance of classes, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import EvaluationError, TaskError
from ..core.message import Message, say
from ..core.report import Figure
from ..evaluate.evaluator import glance
from ..models.subject import Subject
from .texts import Samples

LOOK = 512  # samples


@dataclass(frozen=True)
class Sanity:
    """metric: the main one of the original model, measured. balance: {class: samples} of the validation split.

    low, high: the inputs' range. hints: what looks wrong, with what to try.
    """

    metric: str
    figure: Figure
    balance: Mapping[str, int]
    low: float
    high: float
    hints: tuple[Message, ...]


def check(subject: Subject, device: str | None = None) -> Sanity:
    """A first look at the original on its validation split. Raises :class:`EvaluationError` where the model cannot take the
    inputs, :class:`TaskError` where there is no data or a label that the model has no output for."""
    if subject.task.kind == "classification":
        _refuse_labels(subject)
    try:
        report = glance(subject, device=device)
    except EvaluationError as error:
        inputs = subject.example(1)
        if not isinstance(inputs, Tensor):
            raise
        raise EvaluationError(  # torch names the sizes of a product; this is the size that a person has set
            say(
                "{error}. A sample of this data is {shape}: choose the columns and the shape that the model takes",
                error=error.message,
                shape=" × ".join(map(str, inputs.shape[1:])),
            )
        ) from error
    figure = report.figure(report.main)
    data = subject.task.dataset("validation")
    n = min(len(data), LOOK)
    inputs = subject.task.batch("validation", range(n))[0]
    low, high = (
        (float(inputs.min()), float(inputs.max())) if isinstance(inputs, Tensor) else (float("nan"), float("nan"))
    )
    balance: dict[str, int] = {}
    hints: list[Message] = []
    if subject.task.kind == "classification":
        targets = (
            data.targets
            if isinstance(data, Samples)
            else torch.as_tensor(data.tensors[1])
            if hasattr(data, "tensors")
            else subject.task.batch("validation", range(n))[1]
        )
        names = subject.task.classes or tuple(map(str, range(int(targets.max()) + 1)))
        counts = torch.bincount(targets.long(), minlength=len(names)).tolist()
        balance = dict(zip(names, counts, strict=False))
        hints += _of_classes(report.metrics["accuracy"], counts)
    elif report.main == "r2" and figure.value < 0.05:
        hints.append(
            say(
                "R² is {value:.2f}: no better than the mean. Other units of the target, or normalization missing?",
                value=figure.value,
            )
        )
    elif report.main == "perplexity" and (size := _vocabulary(subject)) is not None and figure.value >= size:
        hints.append(
            say(
                "perplexity {value:.4g} over {size} tokens: no better than guessing. Another tokenizer, or another language?",
                value=figure.value,
                size=size,
            )
        )
    if isinstance(inputs, Tensor):
        hints += _of_range(inputs)
    elif isinstance(inputs, Mapping):
        for name, one in inputs.items():
            hints += [say("input {name} of the model: {error}", name=name, error=hint) for hint in _of_range(one)]
    return Sanity(report.main, figure, balance, low, high, tuple(hints))


def _refuse_labels(subject: Subject) -> None:
    """A label beyond the model's outputs is met by its loss, in whatever split, and fails there: say so before."""
    try:
        known = _vocabulary(subject)
    except Exception:  # a model that cannot take the inputs is told of by the first look
        return
    for split, data in subject.task.splits.items():
        targets = data.targets if isinstance(data, Samples) else data.tensors[1] if hasattr(data, "tensors") else None
        if known is None or not isinstance(targets, Tensor) or not targets.numel():
            continue
        if (most := int(targets.max())) >= known:
            raise TaskError(
                say(
                    "a label of the {split} samples is {label}; the model has {count} outputs, so accepted: 0 to {last}",
                    split=split,
                    label=most,
                    count=known,
                    last=known - 1,
                )
            )


def _of_range(inputs: Tensor) -> list[Message]:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or float(inputs.max() - inputs.min()) <= 60:
        return []
    return [
        say(
            "inputs run from {low:.4g} to {high:.4g}: is a scale such as 1/255, or a normalization, missing?",
            low=float(inputs.min()),
            high=float(inputs.max()),
        )
    ]


def _vocabulary(subject: Subject) -> int | None:
    """Tokens that the model tells apart: the width of its outputs."""
    with torch.no_grad():
        outputs = subject.task.forward(subject.copy(), subject.example(1))
    return outputs.shape[-1] if isinstance(outputs, Tensor) else None


def _of_classes(accuracy: float, counts: list[int]) -> list[Message]:
    present = [count for count in counts if count]
    chance, largest = 1 / max(len(present), 1), max(present) / sum(present)
    hints = []
    if len(present) == 1:
        hints.append(say("all samples are of one class: is this the label column?"))
    elif accuracy < 1.5 * chance:
        hints.append(
            say(
                "{accuracy:.1%} on {classes} classes: labels shuffled, or normalization missing?",
                accuracy=accuracy,
                classes=len(present),
            )
        )
    elif accuracy <= largest:
        hints.append(
            say(
                "{accuracy:.1%} is no better than always answering the largest class ({largest:.1%})",
                accuracy=accuracy,
                largest=largest,
            )
        )
    if min(present) * 10 < max(present):
        hints.append(
            say(
                "the largest class has {times:.0f} times the samples of the smallest: look at recall by class",
                times=max(present) / min(present),
            )
        )
    return hints
