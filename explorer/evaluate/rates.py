"""Intervals of a difference of two rates that were counted in strata: answers won less answers lost.

Each rate is a weighted sum of counts, of which rare ones are far from normal, and a stratum without an event is not one without risk. So each
has the limits of a gamma distribution of the same mean and variance, the upper one as if more had been seen, of the strata's mean weight
(Fay and Feuer 1997, Statistics in Medicine 16, 791-801; Tiwari, Clegg and Zou 2006, Stat. Methods Med. Res. 15, 547-569): not a whole event, which covers
more than it says (Fay and Kim 2017, Biometrical J. 59, 549-565). The difference
of both, which depend on each other, is limited as in Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..analysis.compiled import compiled

MORE = 0.75  # events: where none was seen, the limit is that of the mid-p value


@dataclass(frozen=True)
class Counted:
    """won, lost: [..., H] counts among ``seen`` [..., H] of the ``sizes`` [H] samples of each stratum; every stratum was looked at, or is empty.

    spread: [3, ..., H], the variances of what one sample of a stratum wins and loses and their covariance; None: as if drawn from all of the stratum.
    """

    won: np.ndarray
    lost: np.ndarray
    seen: np.ndarray
    sizes: np.ndarray
    spread: np.ndarray | None = None

    @property
    def change(self) -> np.ndarray:
        """[...]: the estimate of the whole split's."""
        rates = (self.won - self.lost) / np.maximum(self.seen, 1)
        return rates @ (self.sizes / self.sizes.sum())

    def interval(self, z: float, beyond: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) [...] of the change of the whole split; with ``beyond`` of all samples of which the split is some.

        z: a normal quantile. Source of the finite population correction and of the variance beyond the split, where the strata's sizes are
        themselves those of a sample: Cochran 1977, Sampling Techniques, 5.3 and 12.2.
        """
        shape = np.broadcast_shapes(self.won.shape, self.seen.shape)
        seen = np.maximum(self.seen, 1)
        won, lost = self.won / seen, self.lost / seen
        spread = np.array([won * (1 - won), lost * (1 - lost), -won * lost]) if self.spread is None else self.spread
        won, lost, seen = (_rows(one, shape) for one in (won, lost, seen))
        low, high = np.empty(len(won)), np.empty(len(won))
        _intervals(won, lost, seen, _rows(spread, (3, *shape)), self.sizes.astype(np.float64), z, beyond, low, high)
        return low.reshape(shape[:-1]), high.reshape(shape[:-1])


def _rows(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[..., H] as float64 [M, H]."""
    return np.ascontiguousarray(np.broadcast_to(values, shape), np.float64).reshape(-1, shape[-1])


@compiled
def _intervals(
    won: np.ndarray,
    lost: np.ndarray,
    seen: np.ndarray,
    spread: np.ndarray,
    sizes: np.ndarray,
    z: float,
    beyond: bool,
    low: np.ndarray,
    high: np.ndarray,
) -> None:  # pragma: no cover (compiled)
    """Rates won, lost [M, H] and their spread [3 * M, H] -> low, high [M]."""
    rows, strata = won.shape
    total = sizes.sum()
    for i in range(rows):
        gained = missed = more = fewer = common = one = squared = 0.0
        for h in range(strata):
            share = sizes[h] / total
            per_event = share / seen[i, h]  # what one sample counts
            left = 1 - seen[i, h] / max(1.0, sizes[h])
            rest = share * per_event * left
            weight = per_event if beyond else per_event * left
            gained += share * won[i, h]
            missed += share * lost[i, h]
            more += rest * spread[i, h]
            fewer += rest * spread[rows + i, h]
            common += rest * spread[2 * rows + i, h]
            one += MORE * weight / strata
            squared += MORE * weight * weight / strata
        if beyond:
            more += gained * (1 - gained) / total
            fewer += missed * (1 - missed) / total
            common -= gained * missed / total
        scale = np.sqrt(more * fewer)
        together = 2 * common / scale if scale > 0 else 0.0
        a, b = gained - _gamma(gained, more, -z), _gamma(missed + one, fewer + squared, z) - missed
        low[i] = gained - missed - np.sqrt(max(0.0, a * a - together * a * b + b * b))
        a, b = _gamma(gained + one, more + squared, z) - gained, missed - _gamma(missed, fewer, -z)
        high[i] = gained - missed + np.sqrt(max(0.0, a * a - together * a * b + b * b))


@compiled
def _gamma(mean: float, variance: float, z: float) -> float:  # pragma: no cover (compiled)
    """The quantile of a gamma distribution where a normal one has ``z``. Source: Wilson and Hilferty 1931, PNAS 17, 684-688."""
    if mean <= 0:
        return 0.0
    ninth = variance / (9 * mean * mean)
    return mean * max(0.0, 1 - ninth + z * np.sqrt(ninth)) ** 3


# compiled now, and not in an evaluation, whose pace is measured
Counted(np.zeros(1), np.zeros(1), np.ones(1), np.ones(1)).interval(1.0)
