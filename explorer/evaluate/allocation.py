"""In which order an adaptive scan sees samples: those whose answers change most easily first, and more of them.

Answers change where the base's own are close to the edge, so such samples say most of what a change of the whole split is. An
allocation in proportion to size times standard deviation needs the fewest (Neyman 1934, J. R. Stat. Soc. 97, 558-625; Cochran
1977, Sampling Techniques, 5.5). The deviations differ from plan to plan, but in much the same way; so one order serves all of
them, whose every prefix holds of each stratum its share: of a short one mostly doubtful samples, while a long one has all of these.
"""

from __future__ import annotations

import numpy as np

EDGES = (0.1, 0.2, 0.35, 0.6)  # of the strata: fractions of the samples, the most doubtful first
SHARES = (
    1.0,
    0.6,
    0.4,
    0.25,
    0.2,
)  # of a stratum's samples are drawn at these rates; the last ones bound what was not seen


class Allocation:
    """Samples in an order of strata. ``order[i]`` is the place in the split's order of the i-th; sizes: [H], of the strata.

    certainty: [N], in the split's order; small where an answer changes easily. first: so many samples of the split's order, which
    were seen already, come first. Within a stratum samples keep the split's order, so of each it is a fair sample.
    """

    def __init__(self, certainty: np.ndarray, first: int = 0) -> None:
        n = len(certainty)
        rank = np.empty(n, dtype=np.int64)
        rank[np.argsort(certainty, kind="stable")] = np.arange(n)
        stratum = np.searchsorted(np.array(EDGES) * n, rank, side="right")
        self.sizes = np.bincount(stratum, minlength=len(SHARES))
        turn = np.empty(n)
        for one, (size, share) in enumerate(zip(self.sizes, SHARES, strict=True)):
            turn[stratum == one] = (np.arange(size) + 0.5) / (max(1, size) * share)
        turn[:first] = 0
        self.order = np.argsort(turn, kind="stable")
        self.strata = stratum[self.order]
        self._seen = np.cumsum(self.strata[:, None] == np.arange(len(SHARES)), axis=0)

    def seen(self, n: np.ndarray | int) -> np.ndarray:
        """[..., H]: how many samples of each stratum the first ``n`` [...] hold; at least one sample."""
        found: np.ndarray = self._seen[np.asarray(n) - 1]
        return found

    def count(self, which: np.ndarray) -> np.ndarray:
        """[H]: of bools [n] of the first n samples, how many are true in each stratum."""
        return np.bincount(self.strata[: len(which)][which], minlength=len(self.sizes))
