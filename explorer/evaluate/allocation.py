"""In which order an adaptive scan sees samples: those whose answers change most easily first, and more of them.

Answers change where the base's own are close to the edge, so such samples say most of what a change of the whole split is. An
allocation in proportion to size times standard deviation needs the fewest (Neyman 1934, J. R. Stat. Soc. 97, 558-625; Cochran
1977, Sampling Techniques, 5.5). The deviations differ from plan to plan, but in much the same way; so one order serves all of
them, whose every prefix holds of each stratum its share: of a short one mostly doubtful samples, while a long one has all of these.

A plan spoils some classes and spares others. So within a stratum every prefix holds each kind of sample in proportion, and only what differs among
samples of one kind makes the stratum's rate uncertain (Cochran 1977, 5.6 and 5A.9).
"""

from __future__ import annotations

import numpy as np

from ..analysis.compiled import compiled
from .rates import Counted

EDGES = (0.05, 0.1, 0.2, 0.35, 0.6)  # of the strata: fractions of the samples, the most doubtful first
SHARES = (
    1.0,
    0.8,
    0.6,
    0.4,
    0.25,
    0.17,
)  # of a stratum's samples are drawn at these rates; the last ones bound what was not seen


class Allocation:
    """Samples in an order of strata. ``order[i]`` is the place in the split's order of the i-th; sizes: [H], of the strata.

    certainty: [N], in the split's order; small where an answer changes easily. first: so many samples of the split's order, which
    were seen already, come first. kinds: [N] whole numbers from 0 on. Within a stratum samples of one kind keep the split's order, so of each they are a fair sample.
    """

    def __init__(self, certainty: np.ndarray, first: int = 0, kinds: np.ndarray | None = None) -> None:
        n = len(certainty)
        rank = np.empty(n, dtype=np.int64)
        rank[np.argsort(certainty, kind="stable")] = np.arange(n)
        stratum = np.searchsorted(np.array(EDGES) * n, rank, side="right")
        self.sizes = np.bincount(stratum, minlength=len(SHARES))
        self.kinds = 1 if kinds is None else int(kinds.max()) + 1
        cell = stratum if kinds is None else stratum * self.kinds + kinds
        size = np.bincount(cell, minlength=len(SHARES) * self.kinds)
        grouped = np.argsort(cell, kind="stable")
        place = np.empty(n, dtype=np.int64)  # in its cell
        place[grouped] = np.arange(n) - np.repeat(np.cumsum(size) - size, size)
        turn = (place + 0.5) / (size[cell] * np.array(SHARES)[stratum])
        turn[:first] = 0
        self.order = np.argsort(turn, kind="stable")
        self.strata, self._cells = stratum[self.order], cell[self.order]
        self._seen = np.cumsum(self.strata[:, None] == np.arange(len(SHARES)), axis=0)

    def seen(self, n: np.ndarray | int) -> np.ndarray:
        """[..., H]: how many samples of each stratum the first ``n`` [...] hold; at least one sample."""
        found: np.ndarray = self._seen[np.asarray(n) - 1]
        return found

    def counted(self, was: np.ndarray, now: np.ndarray) -> Counted:
        """What was won and lost. was, now: bools [n] of the first n samples, in this order; whether the answers were and are right."""
        cells = np.zeros((3, len(self.sizes) * self.kinds))
        _tally(was, now, self._cells, cells)
        won, lost, seen = cells.reshape(3, len(self.sizes), self.kinds)
        within = np.array([won, lost, np.zeros_like(won)]) - np.array(
            [won * won, lost * lost, won * lost]
        ) / np.maximum(seen, 1)
        free = seen.sum(1) - (seen > 0).sum(1)
        return Counted(won.sum(1), lost.sum(1), seen.sum(1), self.sizes, within.sum(2) / np.maximum(free, 1))


@compiled
def _tally(
    was: np.ndarray, now: np.ndarray, cells: np.ndarray, found: np.ndarray
) -> None:  # pragma: no cover (compiled)
    """Adds to found [3, cells] the answers won, those lost, and the samples."""
    for i in range(len(now)):
        found[2, cells[i]] += 1
        if now[i] != was[i]:
            found[0 if now[i] else 1, cells[i]] += 1


# compiled now, and not in an evaluation, whose pace is measured
_tally(np.zeros(1, bool), np.zeros(1, bool), np.zeros(1, np.int64), np.zeros((3, 1)))
