"""Single inputs: how they look, and what the original and the compressed model answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compress.apply import effective_weights
from ..compress.resolve import resolve
from ..core.errors import TaskError
from ..core.message import say
from ..core.recipe import Recipe
from ..models.device import exact, pick
from ..models.subject import Subject
from ..models.task import to_device
from .engine import engine
from .runners import Runner


@dataclass(frozen=True)
class Shown:
    """One input for the screen. kind: image (array [H, W] or [H, W, 3]), sequence ([T, C]), table (dict, or [F]) or text (str)."""

    kind: str
    value: Any
    target: Any


@dataclass(frozen=True)
class Answers:
    """What both models say. Classes and tokens: (label, probability), most probable first; regression: ("", value)."""

    before: tuple[tuple[str, float], ...]
    after: tuple[tuple[str, float], ...]


def show(subject: Subject, split: str, index: int) -> Shown:
    """Sample ``index`` of a split, as the task says it should be displayed."""
    inputs, target = subject.task.dataset(split)[index]
    return Shown(subject.task.display or "none", picture(subject, inputs), _plain(target))


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else value.tolist()
    return value


def picture(subject: Subject, inputs: Any) -> Any:
    """The drawable form of one sample's inputs."""
    task = subject.task
    if task.display in ("text", "table") and task.decode is not None:
        return task.decode(inputs)
    if not isinstance(inputs, Tensor) and task.decode is not None:
        inputs = task.decode(inputs)  # of several inputs the one that can be drawn
    if not isinstance(inputs, Tensor):
        return None
    array = inputs.detach().cpu().float().numpy()
    if task.display == "image":
        array = array.squeeze() if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
        low, high = float(array.min()), float(array.max())
        return (array - low) / (high - low) if high > low else np.zeros_like(array)
    if task.display == "sequence":
        used = np.flatnonzero(np.abs(array).sum(1))
        return array[: used[-1] + 1] if len(used) else array[:1]
    return array


def label(subject: Subject, index: Any) -> str:
    """A class by name, a number as it is."""
    classes = subject.task.classes
    if classes and isinstance(index, (int, float)) and 0 <= int(index) < len(classes):
        return classes[int(index)]
    return f"{index:.4g}" if isinstance(index, float) else str(index)


@torch.inference_mode()
def answers(subject: Subject, recipe: Recipe, inputs: Any, top: int = 5, device: str | None = None) -> Answers:
    """Both models' answers to one sample's inputs (not collated)."""
    plan = resolve(subject, recipe)
    run = engine(subject, pick(device))
    batch = to_device(subject.task.collate([(inputs, 0)])[0], run.device)
    runner, out = Runner(run.replica, subject.task, apart=run.runner.apart), []

    def tell(_: int, __: int, outputs: Any) -> None:
        out.append(_read(subject, outputs, top))

    for changed in (({}, {}, {}), (effective_weights(subject, plan), plan.norms, plan.roundings())):
        with exact(run.device):
            runner.run(None, batch, [(0, 1)], partial(run.replica.weights, *changed), tell, None)
    return Answers(out[0], out[1])


def _read(subject: Subject, outputs: Any, top: int) -> tuple[tuple[str, float], ...]:
    task = subject.task
    if not isinstance(outputs, Tensor):
        raise TaskError(say("this task's outputs are not a tensor; single answers cannot be shown"))
    row = outputs[0].float().cpu()
    if task.kind == "language_model":
        row = row[-1]
    if task.kind in ("classification", "language_model"):
        probability = row.softmax(-1)
        best = torch.topk(probability, min(top, len(probability)))
        return tuple((_token(subject, i), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True))
    return tuple(("", value) for value in row.reshape(-1).tolist()[:top])


def _token(subject: Subject, index: int) -> str:
    if subject.task.kind == "classification":
        return label(subject, index)
    decode = subject.task.decode
    return str(decode(torch.tensor([index]))) if decode else str(index)


def from_text(subject: Subject, text: str) -> Any:
    """Typed text as the model's input. Raises :class:`TaskError`."""
    if subject.task.encode is None or not typed(subject):
        raise TaskError(say("this model takes no text"))
    try:
        return subject.task.encode(text)
    except (ValueError, KeyError) as error:
        raise TaskError(say("the text could not be encoded: {error}", error=str(error))) from None


def _example(subject: Subject) -> Tensor:
    """A sample's input, where it is one tensor. Raises :class:`TaskError`."""
    example = subject.task.dataset("validation")[0][0]
    if not isinstance(example, Tensor):
        count = len(example) if isinstance(example, (dict, tuple, list)) else 0
        raise TaskError(say("this model's input is {count} tensors, and not one; accepted: a sample of the validation split", count=count))
    return example


def accepted(subject: Subject) -> str:
    """The shape of what :func:`from_array` takes, for the screen; a sequence may be shorter. Raises :class:`TaskError`."""
    shape = " × ".join(map(str, _example(subject).shape))
    return f"≤ {shape}" if subject.task.display == "sequence" else shape


def from_array(subject: Subject, array: np.ndarray) -> Any:
    """Numbers (an image in [0, 1], a sequence [T, C], a row of features) fitted to the model's input shape, and to the scale of its
    data where the task's ``encode`` knows that.

    Raises :class:`TaskError` naming the shape received and the shape accepted.
    """
    example = _example(subject)
    shape = tuple(example.shape)
    value = torch.as_tensor(np.asarray(array), dtype=torch.float32)
    if not torch.isfinite(value).all():
        raise TaskError(say("the input holds NaN or infinity; accepted: finite numbers"))
    if subject.task.display == "sequence" and value.ndim == 2 and value.shape[1] == shape[1] and len(value) <= shape[0]:
        value = torch.nn.functional.pad(value, (0, 0, 0, shape[0] - len(value)))
    if value.numel() != example.numel():
        given = " × ".join(map(str, value.shape))
        raise TaskError(say("an input of shape {given}; accepted: {shape}", given=given, shape=accepted(subject)))
    value = value.reshape(shape)
    if subject.task.encode is not None and not typed(subject):
        value = subject.task.encode(value)
    return value.to(example.dtype)


def typed(subject: Subject) -> bool:
    """Whether one's own input is a text; else ``encode``, if there is one, scales numbers."""
    return subject.task.encode is not None and subject.task.display in (None, "text")
