"""What a model is judged on: splits of samples, a loss, a score a sample, and how to show them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from ..core.errors import ExplorerError, TaskError, cause, near
from ..core.message import say
from ..core.report import LOWER_IS_BETTER
from .device import place
from .onnx_module import OnnxModule

Score = Callable[[Any, Any], Mapping[str, Any]]
SINGLE = ("classification", "regression", "language_model")
DISPLAYS = ("image", "sequence", "text", "table")


def call(module: nn.Module, inputs: Any) -> Any:
    """``module`` on collated inputs: a tuple is spread, a dict becomes keywords, anything else is one argument.

    Of outputs by name, as those of transformers' models, the logits where there are any.
    """
    if isinstance(inputs, dict):
        outputs = module(**inputs)
    elif isinstance(inputs, (tuple, list)):
        outputs = module(*inputs)
    else:
        outputs = module(inputs)
    if isinstance(outputs, Mapping) and isinstance(outputs.get("logits"), Tensor):
        return outputs["logits"]
    return outputs


def call_first(module: nn.Module, inputs: Any) -> Any:
    """As :func:`call`; of several outputs the first."""
    found = call(module, inputs)
    return found[0] if isinstance(found, tuple) else found


def judged(task: Task, module: nn.Module) -> Task:
    """The task, with the first output judged where a graph of a file has several and the task asks for one."""
    several = isinstance(module, OnnxModule) and task.kind in SINGLE and len(module.graph.outputs) > 1
    if not several or task.forward is not call:
        return task
    made = copy.copy(task)
    object.__setattr__(made, "forward", call_first)
    return made


def to_device(value: Any, device: torch.device | str, dtype: torch.dtype | None = None) -> Any:
    """Tensors within nested tuples, lists and dicts moved to ``device``; floating ones to ``dtype`` if given."""
    if isinstance(value, Tensor):
        return place(value, device, dtype)
    if isinstance(value, dict):
        return {key: to_device(one, device, dtype) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return rebuilt(value, [to_device(one, device, dtype) for one in value])
    return value


def copied(value: Any) -> Any:
    """Tensors within nested tuples, lists and dicts copied."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return rebuilt(value, [copied(one) for one in value]) if isinstance(value, (tuple, list)) else value


def rebuilt(value: Any, parts: list[Any]) -> Any:
    """``parts`` as a tuple, named tuple or list of the type of ``value``."""
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def part(value: Any, index: slice | Tensor) -> Any:
    """The samples ``index`` of collated inputs or targets."""
    if isinstance(value, dict):
        return {key: part(one, index) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        if value and isinstance(value[0], (str, bytes)):  # texts are collated as they are, one a sample
            return value[index] if isinstance(index, slice) else [value[i] for i in index.tolist()]
        return rebuilt(value, [part(one, index) for one in value])
    return value[index]


def _looked_up(name: str, data: Any) -> Any:
    """Batches as samples; anything else as it is."""
    if hasattr(data, "__getitem__") or not isinstance(data, Iterable):
        return data
    from .batches import Batches

    return Batches(data, name)


@dataclass(frozen=True, init=False, eq=False)
class Task:
    """Splits and how to judge outputs on them.

    Each split is map-style: ``len(ds)`` and ``ds[i] -> (inputs, target)``; inputs is a tensor, a tuple or a dict. A generator of
    batches or a DataLoader is read once and kept; the sample is the first dim of all its tensors.
    ``score(outputs, targets) -> {"metric": Tensor[N]}``: one value a sample; a (numerator, denominator) pair of
    Tensor[N] makes a ratio of sums. ``loss(outputs, targets) -> scalar Tensor``. Only "validation" and a score
    are required. decode, encode: inputs -> what the screen draws, and what a person gives -> inputs: a text where ``display`` is one, else
    a tensor of a sample's shape, of a picture with values from 0 to 1. Raises :class:`TaskError`.
    """

    kind: str
    splits: Mapping[str, Any]
    score: Score | None
    loss: Callable[[Any, Any], Tensor] | None
    forward: Callable[[nn.Module, Any], Any]
    collate: Callable[[list[Any]], Any]
    classes: tuple[str, ...] | None
    lower_is_better: frozenset[str]
    display: str | None
    decode: Callable[[Any], Any] | None
    encode: Callable[[Any], Any] | None
    labels: tuple[str, ...] | None
    why: str = ""  # of a task without data: what is missing

    def __init__(
        self,
        *,
        splits: Mapping[str, Any],
        score: Score | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        forward: Callable[[nn.Module, Any], Any] = call,
        collate: Callable[[list[Any]], Any] = default_collate,
        classes: Sequence[str] | None = None,
        lower_is_better: Sequence[str] | frozenset[str] = (),
        display: str | None = None,
        decode: Callable[[Any], Any] | None = None,
        encode: Callable[[Any], Any] | None = None,
        labels: Sequence[str] | None = None,
        kind: str = "custom",
    ) -> None:
        if kind == "custom" and score is None:
            raise TaskError(say("a task of your own needs score=: score(outputs, targets) -> {name: Tensor[N]}"))
        if not isinstance(splits, Mapping):
            raise TaskError(say('splits={splits!r}; accepted: {{"validation": data, ...}}', splits=splits))
        for what, one in dict(score=score, loss=loss, forward=forward, collate=collate, decode=decode, encode=encode).items():
            if one is not None and not callable(one):
                raise TaskError(say("{what}={one!r}; accepted: a function", what=what, one=one))
        given = {name: _looked_up(name, data) for name, data in splits.items() if data is not None}
        if "validation" not in given and kind != "weights":
            raise TaskError(
                say('a task needs the split "validation"; given: {given}', given=", ".join(given) or say("none"))
            )
        for name, data in given.items():
            if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
                raise TaskError(
                    say(
                        "split {name!r} is {type}; accepted: map-style, with len() and [i], or batches of (inputs, targets)",
                        name=name,
                        type=type(data).__name__,
                    )
                )
            if len(data) == 0:
                raise TaskError(say("split {name!r} is empty; accepted: at least one sample", name=name))
        if display is not None and display not in DISPLAYS:
            raise TaskError(
                say("display={display!r}; accepted: {displays} or None", display=display, displays=", ".join(DISPLAYS))
            )
        lower = frozenset(lower_is_better) | LOWER_IS_BETTER if kind != "custom" else frozenset({*lower_is_better, "loss"})
        values = dict(
            kind=kind, splits=MappingProxyType(given), score=score, loss=loss, forward=forward, collate=collate,
            classes=tuple(classes) if classes is not None else None, lower_is_better=lower, display=display,
            decode=decode, encode=encode, labels=tuple(labels) if labels is not None else None,
        )  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def classification(
        cls, *, train: Any = None, validation: Any, test: Any = None, classes: Sequence[str] | None = None, **more: Any
    ) -> Task:
        """Outputs are logits [N, C], targets class indices [N]. Metrics: accuracy, macro precision, recall, f1, loss."""
        loss = more.pop("loss", nn.functional.cross_entropy)
        return cls(splits=_splits(train, validation, test), loss=loss, classes=classes, kind="classification", **more)

    @classmethod
    def regression(cls, *, train: Any = None, validation: Any, test: Any = None, **more: Any) -> Task:
        """Outputs and targets are [N] or [N, D]. Metrics: r2, rmse, mae, loss (mean squared error)."""

        def squared(outputs: Tensor, targets: Tensor) -> Tensor:
            return nn.functional.mse_loss(outputs.reshape(len(outputs), -1), targets.reshape(len(targets), -1).to(outputs))

        loss = more.pop("loss", squared)
        return cls(splits=_splits(train, validation, test), loss=loss, kind="regression", **more)

    @classmethod
    def language_model(cls, *, train: Any = None, validation: Any, test: Any = None, **more: Any) -> Task:
        """Outputs are logits [N, T, V], targets token indices [N, T]; -100 is ignored.

        Metrics: cross_entropy (nats a token), perplexity, next_token_accuracy, loss.
        """

        def per_token(outputs: Tensor, targets: Tensor) -> Tensor:
            return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())

        loss = more.pop("loss", per_token)
        return cls(splits=_splits(train, validation, test), loss=loss, kind="language_model", **more)

    @classmethod
    def agreement(cls, inputs: Any, *, train: Any = None, test: Any = None, **more: Any) -> Task:
        """No labels: outputs are compared with the original model's own on the same inputs.

        inputs: a tensor [N, ...], a list of samples, or a data set that yields inputs alone (a tensor, a tuple or a dict). Metrics,
        one value a sample: agreement (the largest output is the same), kl (nats, of the softmax), cosine; where an output is a
        single number, difference (root mean square) alone.
        """
        from .agreement import LOWER, score, unlabelled

        splits = _splits(unlabelled(train), unlabelled(inputs), unlabelled(test))
        return cls(splits=splits, score=score, lower_is_better=LOWER, kind="agreement", **more)

    @classmethod
    def weights_only(cls, why: str = "") -> Task:
        """No data, or no forward pass: what needs one says so; histograms, thresholds, sizes and quantization errors work."""
        made = cls(splits={}, kind="weights")
        object.__setattr__(made, "why", why or say("this model came without data"))
        return made

    def bound(self, module: nn.Module) -> Task:
        """The task for one model: for agreement, with the original's own outputs as targets; of several outputs of a file's graph
        the first is judged."""
        if self.kind != "agreement":
            return judged(self, module)
        from .agreement import answered

        return answered(self, module)

    def dataset(self, split: str) -> Any:
        """The samples of a split. Raises :class:`TaskError` for a split that the task does not have."""
        if self.kind == "weights":
            raise TaskError(
                say(
                    "{why}, so nothing can be evaluated; accepted: explorer.Subject(module, task) with a task such as "
                    "explorer.Task.agreement(inputs), which needs no labels",
                    why=self.why,
                )
            )
        if split not in self.splits:
            raise TaskError(say("the task has no split {split!r}; {hint}", split=split, hint=near(split, self.splits)))
        return self.splits[split]

    def batch(self, split: str, indices: Sequence[int]) -> tuple[Any, Any]:
        """Samples ``indices`` of a split, collated: (inputs, targets)."""
        data = self.dataset(split)
        bulk = getattr(data, "__getitems__", None)
        try:
            pairs = bulk(list(indices)) if bulk else [data[int(i)] for i in indices]
            collated = self.collate(list(pairs))
        except ExplorerError:  # of the original model, whose outputs are the targets
            raise
        except Exception as error:  # the data set is the user's
            where = say(
                "split {split!r}: samples {first}... could not be read and collated",
                split=split,
                first=[int(i) for i in indices[:3]],
            )
            raise TaskError(
                say("{where}: {cause}; accepted: (inputs, target), or give collate=", where=where, cause=cause(error))
            ) from error
        if not isinstance(collated, (tuple, list)) or len(collated) != 2:
            raise TaskError(
                say(
                    "split {split!r}: a sample must be (inputs, target), got {type}",
                    split=split,
                    type=type(pairs[0]).__name__,
                )
            )
        return collated[0], collated[1]

    def example(self, n: int = 2) -> Any:
        """The inputs of the first ``n`` samples (repeated where there are fewer), from train where there is one."""
        split = "train" if "train" in self.splits else "validation"
        size = len(self.dataset(split))
        return self.batch(split, [i % size for i in range(n)])[0]


def _splits(train: Any, validation: Any, test: Any) -> dict[str, Any]:
    return {"train": train, "validation": validation, "test": test}
