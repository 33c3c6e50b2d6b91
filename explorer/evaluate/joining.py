"""Values in front of neighbouring stretches of samples, put together: where little is left to do, most of it is what each stretch's calls cost."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..models.memo import nbytes
from .graph import put_together
from .jobs import Job
from .prefixes import Prefixes
from .runners import GraphRunner, Session

LARGEST = 4 << 20  # bytes of such values, which are kept beside those of each stretch: behind more of them the calls count for little


class Joining:
    """Of one engine. A stretch's figures must not depend on what it is computed beside, so what is behind is compared, once, bit by bit."""

    def __init__(self, prefixes: Prefixes) -> None:
        self.prefixes = prefixes
        self.tried = 0  # tests count them
        self._same: dict[Hashable, bool] = {}

    def put(
        self, job: Job, place: tuple[int, int, int], kept: Sequence[Any], inputs: Any, outputs: Sequence[Tensor], session: Session, user: Hashable
    ) -> None:
        """Keep at ``place`` (first, last, batch) what is ``kept`` of each stretch in between, if ``outputs``, what came out of each, come out of all at once."""
        section = job.which.section if job.which is not None else None
        if section is None or not isinstance(job.runner, GraphRunner):
            return
        key = (job.runner, section.key, place, tuple(map(len, outputs)))
        if section.body or not job.runner.graph.rows.issuperset(section.raised) or nbytes(list(kept)) > LARGEST or not self._same.get(key, True):
            return
        above = put_together([one[1] for one in kept])
        if key not in self._same:
            self.tried += 1
            with session():
                found: Any = section.head(*job.runner.bind(inputs), *above)
            self._same[key] = torch.equal(found, torch.cat(list(outputs)))
        if self._same[key]:
            self.prefixes.put(job.group, place, ([], above), user=user)
