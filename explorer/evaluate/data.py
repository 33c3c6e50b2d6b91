"""The samples of a split on a device, in a stratified order: every prefix is a fair sample."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..models.device import room
from ..models.layout import laid_out
from ..models.memo import nbytes
from ..models.strata import labels, stratified_order
from ..models.task import Task, part, to_device

Margins = Callable[[Any, Any], "np.ndarray | None"]
BUDGET = 1 << 30  # bytes of a split that are kept collated; larger ones are collated chunk by chunk
SMALLEST = 32  # samples of the first look, at least
MANY = 2048


def looks(total: int, first: int = 64) -> list[int]:
    """Where one may stop and look: an eighth of ``first`` (at least 32; less would save hardly any time), ``first``, 4 ``first``, and
    every 4 ``first`` from there on; little work is one look.
    Of many samples that take no longer than one such step, a quarter and all: what every step costs anew would be most of it.

    Fixed for a model on a machine, so that a figure never depends on how it came about.
    """
    if MANY <= total <= 4 * first:
        return [total // 4 // 64 * 64, total]
    if total <= 1.5 * first or total <= SMALLEST:
        return [total]
    edges = [max(SMALLEST, first // 8), first, *range(4 * first, total, 4 * first), total]
    return sorted({edge for edge in edges if edge >= SMALLEST})


def pinned(value: Any) -> Any:
    """Tensors within nested tuples, lists and dicts in memory from which a GPU copies by itself."""
    if isinstance(value, Tensor):
        return value.pin_memory() if value.device.type == "cpu" else value
    if isinstance(value, dict):
        return {key: pinned(one) for key, one in value.items()}
    return type(value)(map(pinned, value)) if type(value) in (tuple, list) else value


class SplitData:
    """``chunk(start, stop)`` in stratified order; ``order[i]`` is the position in the split of the i-th sample.

    first: samples of the first look; ``looks`` are the edges of chunks. margins: gives the baseline's for a batch; the first ``pool``
    samples of the order are stratified by class and by these, and are themselves a sample of the split that is stratified by
    class (double sampling: Cochran 1977, Sampling Techniques, chapter 12). A split that fits the budget is read once and kept on the device; a larger one is read chunk by chunk.
    """

    def __init__(
        self,
        task: Task,
        split: str,
        device: torch.device,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
        first: int = 64,
        margins: Margins | None = None,
        pool: int = 0,
    ) -> None:
        data = task.dataset(split)
        self.task, self.split, self.device, self.dtype, self.channels_last = task, split, device, dtype, channels_last
        self.total = len(data)
        budget = room(device, BUDGET)
        fits = task.collate is default_collate and nbytes(task.batch(split, [0])) * self.total <= budget
        whole = task.batch(split, range(self.total)) if fits else None
        known = labels(task, split, data, whole[1] if whole else None)
        order = stratified_order(known, self.total)
        if known is not None and margins is not None and pool >= SMALLEST:
            order = self._by_margin(order, known, margins, min(pool, self.total), whole)
        self.order = torch.from_numpy(order.astype("int64"))
        self.looks = looks(self.total, first)
        self._whole = None
        self._places: Tensor | None = None  # in what is kept, of one that was reordered
        with suppress(torch.OutOfMemoryError):  # then it is moved chunk by chunk
            self._whole = self._move((part(whole[0], self.order), part(whole[1], self.order))) if whole else None

    def _by_margin(self, order: np.ndarray, classes: np.ndarray, margins: Margins, pool: int, whole: Any) -> np.ndarray:
        """The order with its first ``pool`` samples stratified by the baseline's margin, too, if that can be computed."""
        head, found = order[:pool], []
        for start in range(0, pool, MANY):
            picked = torch.from_numpy(head[start : start + MANY].astype("int64"))
            batch = (part(whole[0], picked), part(whole[1], picked)) if whole else self.task.batch(self.split, picked.tolist())
            one = None
            with suppress(torch.OutOfMemoryError):
                one = margins(*self._move(batch))
            if one is None:
                return order
            found.append(one)
        within = stratified_order(classes[head], pool, 1, np.concatenate(found))
        return np.concatenate([head[within], order[pool:]])

    @property
    def whole(self) -> bool:
        """Whether a part of a chunk's inputs is those inputs of a smaller chunk: not so where the user collates."""
        return self._whole is not None

    def _move(self, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        if self.device.type == "cuda":  # copied while the device still computes with what came before
            batch = pinned(batch)
        inputs = laid_out(to_device(batch[0], self.device, self.dtype), self.channels_last)
        return inputs, to_device(batch[1], self.device)

    def chunk(self, start: int, stop: int) -> tuple[Any, Any]:
        """(inputs, targets) of samples start .. stop of the order, on the device."""
        if self._whole is None:
            return self._move(self.task.batch(self.split, self.order[start:stop].tolist()))
        if self._places is None:
            return part(self._whole[0], slice(start, stop)), part(self._whole[1], slice(start, stop))
        inputs, targets = (part(one, self._places[start:stop]) for one in self._whole)
        return laid_out(inputs, self.channels_last), targets

    def reordered(self, places: Tensor) -> SplitData:
        """The same samples, not copied, in another order; places: [N] in this one's."""
        made = copy.copy(self)
        made.order, made._places = self.order[places], places.to(self.device)
        return made

    def some(self, n: int) -> Any:
        """Inputs of ``n`` samples of the order's end, repeated where there are fewer: what was not looked at first."""
        picked = [i % self.total for i in range(self.total - n, self.total)]
        whole = self._whole[0] if self._whole is not None else None
        if whole is not None:
            return laid_out(part(whole, torch.tensor(picked)), self.channels_last)
        return self._move(self.task.batch(self.split, self.order[picked].tolist()))[0]
