"""Columns of a data file -> a Task: which are inputs, which is the target, in which shape, type and scale the model sees them."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ..core.errors import TaskError
from ..core.message import say
from ..evaluate.data import stratified_order
from ..models.task import Task
from .data import PICTURES, Source
from .scaling import scaled
from .showing import shown
from .texts import Inputs, Samples, count, indices, masked, next_tokens, pick, tagged, tags_task, utf8
from .tokens import Reader

KINDS = ("classification", "regression", "language_model", "tokens", "agreement")
TYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


@dataclass(frozen=True)
class Mapping:
    """inputs: columns; several of numbers are put side by side. target: a column, or None (agreement, and the next token).

    kind: one of KINDS. shape: of one sample, () for as it is; of pictures (channels, height, width). dtype: float32, int64 or bool.
    scale, mean, std: x -> (x * scale - mean) / std; of pictures x runs from 0 to 255; mean and std may be one a channel.
    length: tokens of a text that the model sees; without a tokenizer they are its UTF-8 bytes, padded with 0.
    validation, test: shares; seed: of the split. parts: of a model of several inputs, (name, mapping) each, of which columns, shape, dtype, scale
    and length hold; ``inputs`` is empty then.
    """

    inputs: tuple[str, ...]
    target: str | None = None
    kind: str = "classification"
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    length: int = 64
    validation: float = 0.2
    test: float = 0.2
    seed: int = 0
    parts: tuple[tuple[str, Mapping], ...] = ()


def task_of(source: Source, mapping: Mapping, reader: Reader | None = None) -> Task:
    """The task, split by strata where there are classes, by a seed. reader: the tokenizer of the model, where it has one.
    Raises :class:`TaskError` naming the column."""
    if mapping.kind not in KINDS:
        raise TaskError(say("kind={kind!r}; accepted: {kinds}", kind=mapping.kind, kinds=", ".join(KINDS)))
    if not 0 < mapping.validation < 1 or not 0 <= mapping.test < 1 or mapping.validation + mapping.test > 1:
        raise TaskError(
            say(
                "shares {validation} and {test}; accepted: above 0, together at most 1",
                validation=mapping.validation,
                test=mapping.test,
            )
        )
    targets: Tensor | None = None
    classes: tuple[str, ...] = ()
    if mapping.kind == "tokens":
        inputs, targets = _tags(source, mapping, reader)
    else:
        inputs = inputs_of(source, mapping, reader)
    more = shown(source, mapping, inputs, reader)
    n = count(inputs)
    if mapping.kind == "agreement":
        order = stratified_order(None, n, mapping.seed)
        train, validation, test = (Inputs(pick(inputs, i)) if len(i) else None for i in _parts(order, mapping))
        if reader is not None:
            more["forward"] = masked
        return Task.agreement(validation, train=train, test=test, **more)
    if mapping.kind == "language_model":
        targets = next_tokens(inputs)
    elif targets is None:
        targets, classes = targets_of(source, mapping, reader)
    order = stratified_order(targets.numpy() if mapping.kind == "classification" else None, n, mapping.seed)
    pairs = TensorDataset if isinstance(inputs, Tensor) else Samples
    splits = [pairs(pick(inputs, i), targets[i]) if len(i) else None for i in _parts(order, mapping)]
    named = dict(zip(("train", "validation", "test"), splits, strict=True))
    if mapping.kind == "classification":
        return Task.classification(**named, classes=classes or None, **more)
    if mapping.kind == "language_model":
        return Task.language_model(**named, **more)
    if mapping.kind == "tokens":
        assert reader is not None
        return tags_task(named, reader.classes, **more)
    return Task.regression(**named, **more)


def _tags(source: Source, mapping: Mapping, reader: Reader | None) -> tuple[Any, Tensor]:
    if reader is None or not reader.classes:
        raise TaskError(
            say("a class for each word needs a model with a tokenizer and named classes (token classification)")
        )
    if mapping.target is None or len(mapping.inputs) != 1:
        raise TaskError(say("accepted: one column of texts, and one of tags with spaces between"))
    return tagged(_column(source, mapping.inputs[0]), _column(source, mapping.target), reader, mapping.length)


def _parts(order: np.ndarray, mapping: Mapping) -> tuple[Tensor, Tensor, Tensor]:
    """(train, validation, test): indices; every prefix of the order is a fair sample."""
    n = len(order)
    first = max(1, round(mapping.validation * n))
    second = min(n, first + round(mapping.test * n))
    found = torch.from_numpy(order.astype("int64"))
    return found[second:], found[:first], found[first:second]


def _column(source: Source, name: str) -> np.ndarray:
    if name not in source.columns:
        raise TaskError(
            say("no column {name!r}; accepted: {names}", name=name, names=", ".join(list(source.columns)[:20]))
        )
    return source.columns[name]


def inputs_of(source: Source, mapping: Mapping, reader: Reader | None = None) -> Any:
    """[N, ...] as the model will see them; of a language model with a tokenizer, and of one of several inputs, {name: [N, ...]}.
    Raises :class:`TaskError`."""
    if mapping.parts:
        return {name: _part(source, name, one) for name, one in mapping.parts}
    if not mapping.inputs:
        raise TaskError(
            say("no input column; accepted: one or more of {names}", names=", ".join(list(source.columns)[:20]))
        )
    if mapping.dtype not in TYPES:
        raise TaskError(say("dtype={dtype!r}; accepted: {types}", dtype=mapping.dtype, types=", ".join(TYPES)))
    columns = [_column(source, name) for name in mapping.inputs]
    if reader is not None:
        if len(columns) == 1 and columns[0].dtype.kind in "USO" and source.kind != "images":
            return reader.read([str(text) for text in columns[0]], mapping.length)
        return indices(dict(zip(mapping.inputs, columns, strict=True)), reader)
    if source.kind == "images":
        array = _pictures(columns[0], mapping)
    elif columns[0].dtype.kind in "US" and len(columns) == 1:
        array = utf8(columns[0], mapping.length).numpy()
    else:
        odd = [name for name, c in zip(mapping.inputs, columns, strict=True) if c.dtype.kind not in "biuf"]
        if odd:
            raise TaskError(
                say("column {name!r} holds texts; accepted: numbers, or one column of texts alone", name=odd[0])
            )
        array = (
            columns[0]
            if len(columns) == 1
            else np.stack([c.reshape(len(c), -1).squeeze(1) if c.size == len(c) else c for c in columns], 1)
        )
        if array.ndim == 1:
            array = array[:, None]
    if mapping.shape and source.kind != "images":
        try:
            array = array.reshape(len(array), *mapping.shape)
        except ValueError:
            raise TaskError(
                say("a sample has shape {given}; it cannot become {shape}", given=array.shape[1:], shape=mapping.shape)
            ) from None
    if mapping.dtype != "float32":
        return torch.from_numpy(np.ascontiguousarray(array)).to(TYPES[mapping.dtype])
    return scaled(array, mapping)


def _part(source: Source, name: str, mapping: Mapping) -> Tensor:
    try:
        return inputs_of(source, replace(mapping, parts=()))  # type: ignore[no-any-return]
    except TaskError as error:
        raise TaskError(say("input {name} of the model: {error}", name=name, error=error.message)) from None


def _pictures(column: np.ndarray, mapping: Mapping) -> np.ndarray:
    from PIL import Image

    if len(mapping.shape) != 3 or mapping.shape[0] not in (1, 3):
        raise TaskError(say("shape={shape}; accepted for pictures: (1 or 3, height, width)", shape=mapping.shape))
    channels, height, width = mapping.shape
    out = np.empty((len(column), channels, height, width), dtype=np.float32)
    for i, data in enumerate(column):
        with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
            array = np.asarray(picture.convert("L" if channels == 1 else "RGB").resize((width, height)))
        out[i] = array[None] if channels == 1 else np.moveaxis(array, -1, 0)
    return out


def targets_of(source: Source, mapping: Mapping, reader: Reader | None = None) -> tuple[Tensor, tuple[str, ...]]:
    """(targets [N, ...], names of classes, or () where they are numbers). reader: of a model that names its classes.
    Raises :class:`TaskError`."""
    if mapping.target is None:
        raise TaskError(say("{kind} needs a target column; without labels there is agreement", kind=mapping.kind))
    column = _column(source, mapping.target)
    if mapping.kind == "regression":
        if column.dtype.kind not in "biuf" or not np.isfinite(column).all():
            raise TaskError(
                say("the target {name!r} holds texts or missing values; accepted: numbers", name=mapping.target)
            )
        return torch.tensor(np.ascontiguousarray(column), dtype=torch.float32), ()
    if column.ndim == 2 and column.shape[1] > 1 and np.all(column.sum(1) == 1) and set(np.unique(column)) <= {0, 1}:
        column = column.argmax(1)  # one-hot
    column = column.reshape(len(column), -1)
    if column.shape[1] != 1:
        raise TaskError(
            say(
                "the target {name!r} has shape {shape}; accepted: one class a sample",
                name=mapping.target,
                shape=column.shape,
            )
        )
    flat = column[:, 0]
    named = reader.classes if reader is not None else ()
    if flat.dtype.kind == "f" and not np.array_equal(flat, np.round(flat)):
        raise TaskError(
            say("the target {name!r} holds fractions; accepted: classes, or kind regression", name=mapping.target)
        )
    if flat.dtype.kind in "biuf":
        whole = flat.astype("int64")
        if whole.min() < 0 or whole.max() > 100_000:
            raise TaskError(
                say("classes run from {low} to {high}; accepted: from 0", low=whole.min(), high=whole.max())
            )
        if named and whole.max() >= len(named):
            raise TaskError(
                say(
                    "class {index}; the model knows {count}: 0 to {last}",
                    index=whole.max(),
                    count=len(named),
                    last=len(named) - 1,
                )
            )
        return torch.from_numpy(whole), named  # the model may know more classes than occur
    if named:
        order = {name: i for i, name in enumerate(named)}
        odd = sorted(set(map(str, flat)) - set(named))
        if odd:
            raise TaskError(
                say(
                    "the target holds {odd!r}; the model's classes: {classes}",
                    odd=odd[0][:40],
                    classes=", ".join(named[:20]),
                )
            )
        return torch.tensor([order[str(one)] for one in flat]), named
    names, index = np.unique(flat, return_inverse=True)
    return torch.from_numpy(index.astype("int64")), tuple(map(str, names))
