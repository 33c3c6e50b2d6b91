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
from ..models.task import Task, part, rebuilt, to_device

Margins = Callable[[Any, Any], "np.ndarray | None"]
PIECE = 64 << 20  # bytes that are pinned at once
BUDGET = 1 << 30  # bytes of a split that are kept collated; larger ones are collated chunk by chunk
SMALLEST = 32  # samples of the first look, at least
MANY = 2048
AT_ONCE = 4096  # samples of a chunk that need not take more: of all points of a scan, values of as many are held at once


def looks(total: int, first: int = 64) -> list[int]:
    """Where one may stop and look: an eighth of ``first`` (at least 32; less would save hardly any time), ``first``, 4 ``first``, and
    from there on every 16 ``first``, but no more than 4096 samples at once; little work is one look.
    Of many samples that take no longer than one such step, a quarter and all: what every step costs anew would be most of it.

    Fixed for a model on a machine, so that a figure never depends on how it came about.
    """
    if MANY <= total <= 4 * first:
        return [total // 4 // 64 * 64, total]
    if total <= 1.5 * first or total <= SMALLEST:
        return [total]
    step = max(4 * first, min(16 * first, AT_ONCE))
    edges = [max(SMALLEST, first // 8), first, *range(4 * first, total, step), total]
    return sorted({edge for edge in edges if edge >= SMALLEST})


def preloaded(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """As :func:`to_device` from the CPU to a GPU, by way of pinned memory, from which it copies by itself, a piece at a time: pinning all
    of a split takes longer than copying it, and torch would keep that memory."""
    if isinstance(value, dict):
        return {key: preloaded(one, device, dtype) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return rebuilt(value, [preloaded(one, device, dtype) for one in value])
    if not isinstance(value, Tensor) or value.device.type != "cpu" or value.numel() == 0 or value.ndim == 0:
        return to_device(value, device, dtype)
    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    found = torch.empty(value.shape, dtype=wanted, device=device)
    rows = max(1, PIECE * len(value) // nbytes(value))
    for start in range(0, len(value), rows):
        # torch hands a piece's memory to nobody else before the copy has ended
        found[start : start + rows] = value[start : start + rows].pin_memory().to(device, non_blocking=True)
    return found


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
        move = preloaded if self.device.type == "cuda" else to_device
        return laid_out(move(batch[0], self.device, self.dtype), self.channels_last), move(batch[1], self.device)

    def chunk(self, start: int, stop: int) -> tuple[Any, Any]:
        """(inputs, targets) of samples start .. stop of the order, on the device."""
        if self._whole is None:
            return self._move(self.task.batch(self.split, self.order[start:stop].tolist()))
        if self._places is None:
            if (start, stop) == (0, self.total):
                return self._whole  # type: ignore[no-any-return]
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
