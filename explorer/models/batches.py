"""Data that comes as batches, a DataLoader or a generator, as samples that can be looked up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from ..core.errors import TaskError, cause
from ..core.message import say

MOST = 1_000_000  # samples; a generator without an end would fill the memory


class Batches:
    """The samples of ``batches``, each an (inputs, targets) pair of trees of tensors whose first dim is the sample; map-style.

    Read once and kept: a generator can be read no second time. Raises :class:`TaskError`, which names the batch.
    """

    def __init__(self, batches: Iterable[Any], split: str = "validation") -> None:
        self.batches: list[Any] = []
        self.starts = [0]
        try:
            for number, batch in enumerate(batches):
                self.batches.append(batch)
                self.starts.append(self.starts[-1] + _size(batch, number, split))
                if self.starts[-1] > MOST:
                    raise TaskError(
                        say(
                            "split {split!r}: more than {most:,} samples; accepted: a generator with an end",
                            split=split,
                            most=MOST,
                        )
                    )
        except TaskError:
            raise
        except Exception as error:  # the user's generator
            raise TaskError(
                say(
                    "split {split!r}: batch {number} raised {cause}; accepted: a generator that gives all of its batches",
                    split=split,
                    number=len(self.batches),
                    cause=cause(error),
                )
            ) from error
        self.places = list(itertools.chain.from_iterable(
            ((which, i) for i in range(end - start)) for which, (start, end) in enumerate(itertools.pairwise(self.starts))
        ))  # fmt: skip

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        which, i = self.places[index]
        return _sample(self.batches[which], i)


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    parts: Sequence[Any] = (
        list(tree.values()) if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ()
    )
    return [one for part in parts for one in _tensors(part)]


def _size(batch: Any, number: int, split: str) -> int:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TaskError(
            say(
                "split {split!r}: batch {number} is {type}; accepted: (inputs, targets)",
                split=split,
                number=number,
                type=type(batch).__name__,
            )
        )
    sizes = {len(one) if one.ndim else -1 for one in _tensors(batch)}
    if not sizes:
        raise TaskError(
            say(
                "split {split!r}: batch {number} holds no tensors; accepted: (inputs, targets) of tensors, or map-style data",
                split=split,
                number=number,
            )
        )
    if len(sizes) != 1 or -1 in sizes:
        raise TaskError(
            say(
                "split {split!r}: batch {number} has tensors of {sizes} samples; accepted: the sample as the first dim of every tensor",
                split=split,
                number=number,
                sizes=sorted(sizes),
            )
        )
    return sizes.pop()


def _sample(tree: Any, i: int) -> Any:
    if isinstance(tree, Tensor):
        return tree[i]
    if isinstance(tree, dict):
        return {key: _sample(one, i) for key, one in tree.items()}
    if isinstance(tree, (tuple, list)):
        from .task import rebuilt

        return rebuilt(tree, [_sample(one, i) for one in tree])
    return tree
