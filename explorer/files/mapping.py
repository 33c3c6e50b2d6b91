"""Columns of a data file -> a Task: which are inputs, which is the target, in which shape, type and scale the model sees them."""

from __future__ import annotations

import io
from dataclasses import dataclass
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

KINDS = ("classification", "regression", "agreement")
TYPES = {"float32": torch.float32, "int64": torch.int64}


@dataclass(frozen=True)
class Mapping:
    """inputs: columns; several of numbers are put side by side. target: a column, or None (agreement).

    kind: one of KINDS. shape: of one sample, () for as it is; of pictures (channels, height, width). dtype: float32 or int64.
    scale, mean, std: x -> (x * scale - mean) / std; of pictures x runs from 0 to 255; mean and std may be one a channel.
    length: characters of a text that the model sees, as UTF-8 bytes, padded with 0. validation, test: shares; seed: of the split.
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


def propose(source: Source) -> Mapping:
    """What the columns look like: the target by its name, else the last column; classes where it has few values."""
    names = list(source.columns)
    likely = [
        n for n in names if n.lower() in ("y", "label", "labels", "target", "targets", "class", "y_test", "y_train")
    ]
    target = likely[0] if likely else names[-1] if len(names) > 1 else None
    inputs = tuple(n for n in names if n != target)
    if source.kind == "table":
        inputs = tuple(n for n in inputs if source.columns[n].dtype.kind in "biuf")
    elif inputs:
        inputs = inputs[:1]
    values = source.columns[target] if target else np.empty(0)
    few = (
        values.dtype.kind in "USObiu"
        and values.ndim == 1
        and len(np.unique(values)) <= max(2, min(1000, source.n // 2))
    )
    kind = "agreement" if target is None else "classification" if few else "regression"
    first = source.columns[inputs[0]] if inputs else values
    pixels = source.kind == "images" or first.dtype == np.uint8 and first.ndim >= 3
    shape = (3, 32, 32) if source.kind == "images" else (1, *first.shape[1:]) if pixels and first.ndim == 3 else ()
    integers = source.kind == "text" or first.dtype.kind in "iu" and not pixels and source.kind == "arrays"
    return Mapping(inputs, target, kind, shape, "int64" if integers else "float32", 1 / 255 if pixels else 1.0)


def task_of(source: Source, mapping: Mapping) -> Task:
    """The task, split by strata where there are classes, by a seed. Raises :class:`TaskError` naming the column."""
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
    inputs = inputs_of(source, mapping)
    display = _display(inputs, mapping)
    more: dict[str, Any] = {
        "display": display,
        "labels": mapping.inputs if display == "table" and len(mapping.inputs) > 1 else None,
    }
    if mapping.kind == "agreement":
        order = stratified_order(None, len(inputs), mapping.seed)
        train, validation, test = (inputs[i] if len(i) else None for i in _parts(order, mapping))
        return Task.agreement(validation, train=train, test=test, **more)
    targets, classes = targets_of(source, mapping)
    order = stratified_order(targets.numpy() if mapping.kind == "classification" else None, len(inputs), mapping.seed)
    splits = [TensorDataset(inputs[i], targets[i]) if len(i) else None for i in _parts(order, mapping)]
    named = dict(zip(("train", "validation", "test"), splits, strict=True))
    if mapping.kind == "classification":
        return Task.classification(**named, classes=classes or None, **more)
    return Task.regression(**named, **more)


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


def inputs_of(source: Source, mapping: Mapping) -> Tensor:
    """[N, ...] as the model will see them. Raises :class:`TaskError`."""
    if not mapping.inputs:
        raise TaskError(
            say("no input column; accepted: one or more of {names}", names=", ".join(list(source.columns)[:20]))
        )
    if mapping.dtype not in TYPES:
        raise TaskError(say("dtype={dtype!r}; accepted: {types}", dtype=mapping.dtype, types=", ".join(TYPES)))
    columns = [_column(source, name) for name in mapping.inputs]
    if source.kind == "images":
        array = _pictures(columns[0], mapping)
    elif columns[0].dtype.kind in "US" and len(columns) == 1:
        array = _bytes(columns[0], mapping.length)
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
    if mapping.dtype == "int64":
        return torch.from_numpy(np.ascontiguousarray(array)).to(torch.int64)
    values = torch.tensor(array, dtype=torch.float32) * mapping.scale
    if not bool(torch.isfinite(values).all()):
        raise TaskError(
            say(
                "the inputs hold NaN or infinity in {count:,} samples; accepted: finite numbers",
                count=int((~torch.isfinite(values.flatten(1)).all(1)).sum()),
            )
        )
    return (values - _each(mapping.mean, values)) / _each(mapping.std, values)


def _each(values: tuple[float, ...], like: Tensor) -> Tensor:
    """One value for all, or one a channel (the first dimension of a sample)."""
    if len(values) == 1:
        return torch.tensor(values[0])
    if len(values) != like.shape[1]:
        raise TaskError(
            say(
                "{count} values of mean or std for {channels} channels; accepted: one, or one a channel",
                count=len(values),
                channels=like.shape[1],
            )
        )
    return torch.tensor(values).reshape(1, -1, *[1] * (like.ndim - 2))


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


def _bytes(column: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros((len(column), length), dtype=np.int64)
    for i, text in enumerate(column):
        data = str(text).encode("utf-8")[:length]
        out[i, : len(data)] = list(data)
    return out


def targets_of(source: Source, mapping: Mapping) -> tuple[Tensor, tuple[str, ...]]:
    """(targets [N, ...], names of classes, or () where they are numbers). Raises :class:`TaskError`."""
    if mapping.target is None:
        raise TaskError(say("{kind} needs a target column; without labels there is agreement", kind=mapping.kind))
    column = _column(source, mapping.target)
    if mapping.kind == "regression":
        if column.dtype.kind not in "biuf" or not np.isfinite(column).all():
            raise TaskError(
                say("the target {name!r} holds texts or missing values; accepted: numbers", name=mapping.target)
            )
        return torch.from_numpy(np.ascontiguousarray(column)).to(torch.float32), ()
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
        return torch.from_numpy(whole), ()  # the model may know more classes than occur
    names, index = np.unique(flat, return_inverse=True)
    return torch.from_numpy(index.astype("int64")), tuple(map(str, names))


def _display(inputs: Tensor, mapping: Mapping) -> str | None:
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3) and inputs.is_floating_point():
        return "image"
    if inputs.is_floating_point():
        return {2: "table", 3: "sequence"}.get(inputs.ndim)
    return None
