"""Raw values -> what the model sees: times a factor, less a mean, over a deviation; of a file's data and of an input of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..core.errors import TaskError
from ..core.message import say

if TYPE_CHECKING:
    from .mapping import Mapping


def scaled(array: np.ndarray, mapping: Mapping) -> Tensor:
    """[N, ...] of finite numbers -> (x * scale - mean) / std as float32. Raises :class:`TaskError`."""
    values = torch.tensor(array, dtype=torch.float32) * mapping.scale
    if not bool(torch.isfinite(values).all()):
        bad = (~torch.isfinite(values.flatten(1)).all(1)).nonzero().flatten()
        raise TaskError(
            say(
                "the inputs hold NaN or infinity in {count:,} samples, the first is number {first:,}; accepted: finite numbers",
                count=len(bad),
                first=int(bad[0]) + 1,
            )
        )
    if 0 in mapping.std:
        raise TaskError(say("std={std}; accepted: numbers other than 0", std=mapping.std))
    return (values - _each(mapping.mean, values)) / _each(mapping.std, values)


def own(mapping: Mapping, top: float) -> Callable[[Tensor], Tensor]:
    """Of one input as a person has it, what the model sees. top: the raw value of what is 1 in it (255 for pictures of bytes)."""
    return lambda sample: scaled(top * sample.numpy()[None], mapping)[0]


def top(column: np.ndarray) -> float:
    """The raw value of white in a column of pictures: that of bytes, unless its values lie between 0 and 1 already."""
    return 255.0 if column.dtype.kind in "iuO" or float(column.max()) > 1.5 else 1.0


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
