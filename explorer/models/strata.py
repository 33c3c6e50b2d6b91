"""An order of samples in which every prefix is a fair sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..core.errors import ExplorerError, TaskError, cause
from ..core.message import say
from .task import Task


def stratified_order(labels: np.ndarray | None, n: int, seed: int = 0, margins: np.ndarray | None = None) -> np.ndarray:
    """A seeded permutation of range(n) in which every prefix holds each label in its share (to one sample).

    margins: one number a sample; the prefix's samples of each label, and of all together, are spread evenly over its ranks.
    """
    rng = np.random.default_rng(seed)
    if labels is None:
        return rng.permutation(n)
    place, known = np.empty(n), np.unique(labels)
    start = 0.0 if margins is None else rng.random()
    for i, label in enumerate(known):
        members = rng.permutation(np.flatnonzero(labels == label))
        if margins is not None:
            members = members[np.argsort(margins[members], kind="stable")]
            members = members[spread(len(members), (start + i / len(known)) % 1)]
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def spread(n: int, start: float = 0.0) -> np.ndarray:
    """An order of ``n`` places on a line in which every prefix lies evenly over it: halves, then quarters ..., from the fraction
    ``start`` on. Source: van der Corput 1935, Proc. Akad. Wet. Amsterdam 38; turned as by Cranley and Patterson 1976."""
    bits = max(1, (n - 1).bit_length())
    slots = (np.arange(n) * 2**bits // n - int(start * 2**bits)) % 2**bits
    digits = [(slots >> bit & 1) << (bits - 1 - bit) for bit in range(bits)]
    return np.argsort(sum(digits), kind="stable")


def labels(task: Task, split: str, data: Any, collated: Any) -> np.ndarray | None:
    """[N] class indices to stratify by: the collated targets, else what the data set shows of them, else read one by one."""
    if task.kind != "classification":
        return None
    targets = collated if collated is not None else getattr(data, "targets", None)
    if targets is None and hasattr(data, "tensors"):
        targets = data.tensors[-1]
    try:
        if targets is None or len(targets) != len(data):  # a wrapper may show the targets of what it wraps
            targets = [data[i][1] for i in range(len(data))]
        found = np.asarray(
            [int(t) for t in targets] if isinstance(targets, (list, tuple)) else torch.as_tensor(targets).cpu()
        )
    except ExplorerError:
        raise
    except Exception as error:  # the data set is the user's
        raise TaskError(
            say(
                "split {split!r}: targets cannot be read ({error}); accepted: a class index a sample",
                split=split,
                error=cause(error),
            )
        ) from None
    return found if found.shape == (len(data),) else None
