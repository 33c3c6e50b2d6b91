"""Texts and token indices of a data file -> what a language model takes, and what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import TaskError
from ..core.message import say
from ..models.task import Task, call
from .tokens import Reader

IGNORED = -100  # a target that does not count


class Samples:
    """(inputs, target) pairs of collated inputs, which may be tensors by name."""

    def __init__(self, inputs: Any, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return pick(self.inputs, index), self.targets[index]


class Inputs:
    """Inputs by name, one sample at a time."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return count(self.inputs)

    def __getitem__(self, index: int) -> Any:
        return pick(self.inputs, index)


def pick(inputs: Any, index: Any) -> Any:
    """Samples of collated inputs."""
    return {name: one[index] for name, one in inputs.items()} if isinstance(inputs, Mapping) else inputs[index]


def count(inputs: Any) -> int:
    """Samples in collated inputs."""
    return len(next(iter(inputs.values()))) if isinstance(inputs, Mapping) else len(inputs)


def text_of(values: Sequence[int]) -> str:
    """UTF-8 bytes, padded with 0, as text."""
    return bytes(values).rstrip(b"\0").decode("utf-8", "replace")


def utf8(column: np.ndarray, length: int) -> Tensor:
    """Texts as UTF-8 bytes, padded with 0: int64 [N, length]."""
    out = np.zeros((len(column), length), dtype=np.int64)
    for i, text in enumerate(column):
        data = str(text).encode("utf-8")[:length]
        out[i, : len(data)] = list(data)
    return torch.from_numpy(out)


def indices(columns: Mapping[str, np.ndarray], reader: Reader) -> dict[str, Tensor]:
    """Columns of token indices by the names of the model's arguments; a single one is ``input_ids``. Samples filled up on the
    right with the padding index are masked there."""
    names = list(columns) if len(columns) > 1 else ["input_ids"]
    out = {
        name: torch.from_numpy(np.ascontiguousarray(one)).to(torch.int64)
        for name, one in zip(names, columns.values(), strict=True)
    }
    if "input_ids" not in out or any(one.ndim != 2 for one in out.values()):
        raise TaskError(
            say(
                "columns {names}; accepted: one of texts, or input_ids [N, T] with attention_mask and others of that shape",
                names=", ".join(columns),
            )
        )
    if out["input_ids"].shape[1] > reader.longest:
        raise TaskError(
            say(
                "length {length}; accepted: 1 to {longest} tokens",
                length=out["input_ids"].shape[1],
                longest=reader.longest,
            )
        )
    if "attention_mask" not in out:
        used = (out["input_ids"] != reader.pad).long()
        out["attention_mask"] = used.flip(1).cummax(1).values.flip(1)
    return out


def next_tokens(inputs: Any, pad: int = 0) -> Tensor:
    """Of each position the index that follows: int64 [N, T]; where none does, it does not count."""
    ids = inputs.get("input_ids", next(iter(inputs.values()))) if isinstance(inputs, Mapping) else inputs
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
        raise TaskError(say("next tokens need indices [N, T]; accepted: texts, or a column of type int64"))
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    used = ids != pad if mask is None or mask.shape != ids.shape else mask.bool()
    targets = torch.full_like(ids, IGNORED)
    targets[:, :-1] = torch.where(used[:, 1:] & used[:, :-1], ids[:, 1:], IGNORED)
    if not bool((targets != IGNORED).any()):
        raise TaskError(say("no sample has two tokens; accepted: longer texts"))
    return targets


def tagged(texts: np.ndarray, tags: np.ndarray, reader: Reader, length: int) -> tuple[dict[str, Tensor], Tensor]:
    """Words and their classes, both with spaces between, as inputs and targets [N, length]."""
    index = {name: i for i, name in enumerate(reader.classes)}
    words, classes = [str(one).split() for one in texts], [str(one).split() for one in tags]
    for i, (some, others) in enumerate(zip(words, classes, strict=True)):
        if len(some) != len(others):
            raise TaskError(
                say(
                    "sample {index}: {words} words and {tags} tags; accepted: one tag a word",
                    index=i,
                    words=len(some),
                    tags=len(others),
                )
            )
        odd = next((tag for tag in others if tag not in index), None)
        if odd is not None:
            raise TaskError(
                say(
                    "sample {index}: tag {tag!r}; accepted: {classes}",
                    index=i,
                    tag=odd[:40],
                    classes=", ".join(reader.classes[:20]),
                )
            )
    return reader.read_words(words, [[index[tag] for tag in one] for one in classes], length)


def masked(module: nn.Module, inputs: Any) -> Any:
    """The outputs, with -inf at positions that are padding: agreement does not count these."""
    outputs = call(module, inputs)
    if isinstance(outputs, Mapping):
        outputs = next(one for one in outputs.values() if isinstance(one, Tensor))
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    if mask is None or outputs.ndim != 3 or outputs.shape[:2] != mask.shape:
        return outputs
    return outputs.masked_fill(mask[..., None] == 0, float("-inf"))


def tags_task(splits: Mapping[str, Any], classes: Sequence[str], **more: Any) -> Task:
    """A class for each token. Metrics: accuracy over the tokens that have one, loss (cross-entropy of these)."""

    def score(outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        counted = targets != IGNORED
        return {"token_accuracy": (((outputs.argmax(-1) == targets) & counted).sum(1).float(), counted.sum(1).float())}

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    return Task(splits=splits, score=score, loss=loss, classes=classes, **more)
