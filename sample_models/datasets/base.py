"""What all data sets share: the value `load()` returns, the map-style split, the stratified cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

FOLDER = Path(__file__).resolve().parent.parent / "data"


@dataclass(frozen=True)
class Data:
    """A data set cut into disjoint splits, with what is needed to show it to a person."""

    splits: Mapping[str, Split]  # "train", "validation", "test"
    display: str  # "image" | "sequence" | "text" | "table"
    source: str  # what it is and who made it
    licence: str  # of the data; the notice in full lies beside the file
    classes: tuple[str, ...] | None = None  # by class index
    labels: tuple[str, ...] | None = None  # names of the input's features or channels
    decode: Callable[[Tensor], object] | None = None  # input -> text (str), or a table's row (dict)
    encode: Callable[[str], Tensor] | None = None  # text typed by a person -> input


def unchanged(inputs: Tensor) -> Tensor:
    """Return the inputs as they are: the `prepare` of data that is kept in its final form."""
    return inputs


class Split(Dataset[tuple[Tensor, Tensor]]):
    """Samples kept in one compact tensor and prepared (`prepare`: a batch in, a batch out) when they are read.

    `targets` may be read without preparing any input, to stratify by class: (N,) int64 for classes,
    (N, 1) float32 for regression, (N, T) int64 for a language model.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, prepare: Callable[[Tensor], Tensor] = unchanged) -> None:
        if len(inputs) != len(targets):
            raise ValueError(f"{len(inputs)} inputs but {len(targets)} targets")
        self.inputs, self.targets, self.prepare = inputs, targets, prepare

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.prepare(self.inputs[index]), self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return many samples at once; `DataLoader` calls this when it is there."""
        x, y = self.batch(torch.as_tensor(indices, dtype=torch.long))
        return list(zip(x, y, strict=True))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the samples at `indices` (B,) already collated: inputs (B, ...) and targets (B, ...)."""
        return self.prepare(self.inputs[indices]), self.targets[indices]


def stratified_split(strata: np.ndarray, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Cut N samples into disjoint sets of exactly `sizes`, each with every stratum's share up to rounding.

    Each stratum is shuffled and spread evenly over [0, 1); the sets are consecutive ranges of that line
    (systematic sampling; Cochran, Sampling Techniques, 1977, chapter 8). `strata` is (N,), sum(sizes) <= N.
    """
    if sum(sizes) > len(strata):
        raise ValueError(f"sizes {tuple(sizes)} ask for {sum(sizes)} of {len(strata)} samples")
    rng = np.random.Generator(np.random.PCG64(seed))
    position = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(position, kind="stable")
    ends = np.cumsum(sizes)
    return [np.sort(order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def fractions(count: int, parts: Sequence[float]) -> list[int]:
    """Return whole sizes for `parts` (summing to 1) of `count`; the first takes what rounding leaves.

    >>> fractions(101, (0.7, 0.15, 0.15))
    [71, 15, 15]
    """
    rest = [round(count * part) for part in parts[1:]]
    return [count - sum(rest), *rest]
