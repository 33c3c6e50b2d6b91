"""An order of samples in which every prefix is a fair sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..core.errors import TaskError
from ..core.message import say
from .task import Task


def stratified_order(labels: np.ndarray | None, n: int, seed: int = 0) -> np.ndarray:
    """A seeded permutation of range(n) in which every prefix holds each label in its share (to one sample)."""
    rng = np.random.default_rng(seed)
    if labels is None:
        return rng.permutation(n)
    place = np.empty(n)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def labels(task: Task, split: str, data: Any, collated: Any) -> np.ndarray | None:
    """[N] class indices to stratify by: the collated targets, else what the data set shows of them, else read one by one."""
    if task.kind != "classification":
        return None
    targets = collated if collated is not None else getattr(data, "targets", None)
    if targets is None and hasattr(data, "tensors"):
        targets = data.tensors[-1]
    if targets is None or len(targets) != len(data):  # a wrapper may show the targets of what it wraps
        targets = [data[i][1] for i in range(len(data))]
    try:
        found = np.asarray(
            [int(t) for t in targets] if isinstance(targets, (list, tuple)) else torch.as_tensor(targets).cpu()
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(
            say(
                "split {split!r}: targets cannot be read ({error}); accepted: a class index a sample",
                split=split,
                error=str(error),
            )
        ) from None
    return found if found.shape == (len(data),) else None
