"""Values in front of a split's looks, put together: where little is left to do, most of it is what each look's calls cost."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..models.memo import nbytes
from .chunk import Chunk
from .data import SplitData
from .graph import put_together
from .jobs import Job
from .runners import GraphRunner
from .seen import Work

if TYPE_CHECKING:
    from .engine import Engine

LARGEST = 4 << 20  # bytes of such values, which are kept beside those of each look: behind more of them the calls count for little


class Joining:
    """Of one engine. A figure must not depend on how it came about, so what is behind is compared, once, bit by bit."""

    def __init__(self) -> None:
        self.tried = 0  # tests count them
        self._same: dict[Hashable, bool] = {}

    @torch.inference_mode()
    def put(self, run: Engine, job: Job, data: SplitData, work: Work) -> None:
        """Where the values in front of all looks are kept, keep them as those of all samples, too, for what follows to be run at once."""
        section, user, edges = job.which.section if job.which is not None else None, work.request.user, [*pairwise([0, *data.looks])]
        if section is None or section.body or not isinstance(job.runner, GraphRunner) or len(edges) < 2 or run.recorded.recorder is not None:
            return
        key, place = (job.runner, section.key, data.split), (0, data.total, run.batch)
        if not self._same.get(key, True) or run.kept(job, place, user) is not None or not job.runner.graph.rows.issuperset(section.raised):
            return
        looks = [run.kept(job, (first, last, run.batch), user) for first, last in edges]
        if None in looks or nbytes(looks) > LARGEST:
            return
        above: list[Any] = [one[1] for one in looks]
        whole = put_together(above)
        if key not in self._same:
            self.tried += 1
            with Chunk(run, data, place[:2], work).session(job)():
                found: list[Any] = [
                    section.head(*job.runner.bind(data.chunk(first, last)[0]), *values)
                    for (first, last), values in zip([*edges, place[:2]], [*above, whole], strict=True)
                ]
            self._same[key] = all(isinstance(one, Tensor) for one in found) and torch.equal(found.pop(), torch.cat(found))
        if self._same[key]:
            run.prefixes.put(job.group, place, ([], whole), (), user)
