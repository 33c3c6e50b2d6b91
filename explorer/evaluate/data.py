"""The samples of a split on a device, in a stratified order: every prefix is a fair sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..models.memo import nbytes
from ..models.strata import labels, stratified_order
from ..models.task import Task, rebuilt, to_device

BUDGET = 1 << 30  # bytes of a split that are kept collated; larger ones are collated chunk by chunk
MAX_CHUNK = 512


def looks(total: int) -> list[int]:
    """Chunk boundaries: 32, 64, ... up to chunks of 512. Fixed, so that a figure never depends on how it came about."""
    out, at, step = [], 0, 32
    while at < total:
        at = min(total, at + step)
        out.append(at)
        step = min(MAX_CHUNK, at)
    return out


class SplitData:
    """``chunk(start, stop)`` in stratified order; ``order[i]`` is the position in the split of the i-th sample.

    A split that fits the budget is read once and kept on the device; a larger one is read chunk by chunk.
    """

    def __init__(self, task: Task, split: str, device: torch.device, dtype: torch.dtype | None = None) -> None:
        data = task.dataset(split)
        self.task, self.split, self.device, self.dtype = task, split, device, dtype
        self.total = len(data)
        fits = task.collate is default_collate and nbytes(task.batch(split, [0])) * self.total <= BUDGET
        whole = task.batch(split, range(self.total)) if fits else None
        known = labels(task, split, data, whole[1] if whole else None)
        self.order = torch.from_numpy(stratified_order(known, self.total).astype("int64"))
        self.looks = looks(self.total)
        self._whole = self._move((_part(whole[0], self.order), _part(whole[1], self.order))) if whole else None

    def _move(self, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        return to_device(batch[0], self.device, self.dtype), to_device(batch[1], self.device)

    def chunk(self, start: int, stop: int) -> tuple[Any, Any]:
        """(inputs, targets) of samples start .. stop of the order, on the device."""
        if self._whole is None:
            return self._move(self.task.batch(self.split, self.order[start:stop].tolist()))
        return _part(self._whole[0], slice(start, stop)), _part(self._whole[1], slice(start, stop))


def _part(value: Any, index: slice | Tensor) -> Any:
    """The samples ``index`` of collated inputs or targets."""
    if isinstance(value, dict):
        return {key: _part(one, index) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        if value and isinstance(value[0], (str, bytes)):  # texts are collated as they are, one a sample
            return value[index] if isinstance(index, slice) else [value[i] for i in index.tolist()]
        return rebuilt(value, [_part(one, index) for one in value])
    return value[index]
