"""What was seen of a plan so far, and an evaluation that is on its way to see more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .jobs import Job
from .metrics import Table
from .queue import Request

TABLES = 4  # of the original, at which everybody looks, some at more of its samples than others


def joined(parts: list[Tensor]) -> Tensor:
    """The parts of a column as one; those that lie in a row already, as targets do, or repeat one number, are not copied."""
    first = parts[0]
    if len(parts) == 1:
        return first
    n = sum(map(len, parts))
    if all(part.ndim == 1 and part.stride(0) == 0 and torch.equal(part[:1], first[:1]) for part in parts):
        return first[:1].expand(n)
    at = [first.data_ptr()]
    for part in parts:
        at.append(at[-1] + part.nbytes if part.is_contiguous() and part.data_ptr() == at[-1] else -1)
    if -1 in at or len({part.untyped_storage().data_ptr() for part in parts}) > 1:
        return torch.cat(parts)
    return first.as_strided((n, *first.shape[1:]), first.stride(), first.storage_offset())


def together(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The columns of several parts as those of one."""
    return dict(parts[0]) if len(parts) == 1 else {key: joined([one[key] for one in parts]) for key in parts[0]}


class Seen:
    """Columns of the first ``n`` samples of a split under one plan."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.parts: list[dict[str, Tensor]] = []
        self.n = 0
        self._tables: dict[int, Table] = {}
        self._holder: Request | None = None
        self._joining = threading.Lock()

    @contextmanager
    def held_by(self, request: Request) -> Iterator[None]:
        """One at a time. Whoever holds it while a preview waits is served as one: else it would wait behind all others."""
        if not self.lock.acquire(blocking=False):
            if request.preview and self._holder is not None:
                self._holder.preview = True
            self.lock.acquire()
        self._holder = request
        try:
            yield
        finally:
            self._holder = None
            self.lock.release()

    def columns(self, n: int) -> Table:
        """{name: [n, ...]} of the first n samples."""
        found = self._tables.get(n)
        if found is None:
            with self._joining:  # parts may be added meanwhile, at the end
                parts = list(self.parts)
                whole = together(parts)
                self.parts[: len(parts)] = [whole]  # one copy is kept, and not the parts beside it
            found = Table({key: column if column.shape[0] == n else column[:n] for key, column in whole.items()})
            self._tables = dict([*self._tables.items(), (n, found)][-TABLES:])
        return found


@dataclass(eq=False)
class Work:
    """One evaluation on its way: whose it is, when to stop, and where its time went (seconds)."""

    request: Request
    cancel: Callable[[], bool] | None = None
    prefix: float = 0.0
    suffix: float = 0.0
    samples: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)

    @property
    def timing(self) -> dict[str, float]:
        """For the report."""
        return {"queue": self.request.waited, "prefix": self.prefix, "suffix": self.suffix}
