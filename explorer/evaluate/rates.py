"""Intervals of a difference of two rates that were counted in strata: answers won less answers lost.

Each rate is a weighted sum of counts, of which rare ones are far from normal, and a stratum without an event is not one without risk. So each
has the limits of a gamma distribution of the same mean and variance, the upper one as if one event more had been seen, of the strata's mean weight
(Fay and Feuer 1997, Statistics in Medicine 16, 791-801; Tiwari, Clegg and Zou 2006, Stat. Methods Med. Res. 15, 547-569). The difference
of both, which depend on each other, is limited as in Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counted:
    """won, lost: [..., H] counts among ``seen`` [..., H] of the ``sizes`` [H] samples of each stratum; every stratum was looked at, or is empty."""

    won: np.ndarray
    lost: np.ndarray
    seen: np.ndarray
    sizes: np.ndarray

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
        total = self.sizes.sum()
        share, seen = self.sizes / total, np.maximum(self.seen, 1)
        left = 1 - self.seen / np.maximum(self.sizes, 1)
        per_event = share / seen  # what one sample counts
        weight = per_event if beyond else per_event * left
        won, lost = self.won / seen, self.lost / seen
        rest = share * per_event * left
        gained, missed = won @ share, lost @ share
        common = -(rest * won * lost).sum(-1) - beyond * gained * missed / total
        more, fewer = (
            _limits(rate, (rest * p * (1 - p)).sum(-1) + beyond * rate * (1 - rate) / total, weight, z)
            for rate, p in ((gained, won), (missed, lost))
        )
        scale = np.sqrt(more[2] * fewer[2])
        together = 2 * np.divide(common, scale, out=np.zeros_like(scale), where=scale > 0)
        down, up = (
            np.sqrt(np.maximum(0, a * a - together * a * b + b * b))
            for a, b in ((more[0], fewer[1]), (more[1], fewer[0]))
        )
        return gained - missed - down, gained - missed + up


def _limits(
    rate: np.ndarray, variance: np.ndarray, weight: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distance to the lower limit, to the upper one, variance), each [...], of a rate [...]; weight: [..., H] of one event."""
    one, squared = weight.mean(-1), (weight**2).mean(-1)
    return rate - _gamma(rate, variance, -z), _gamma(rate + one, variance + squared, z) - rate, variance


def _gamma(mean: np.ndarray, variance: np.ndarray, z: float) -> np.ndarray:
    """The quantile of a gamma distribution where a normal one has ``z``. Source: Wilson and Hilferty 1931, PNAS 17, 684-688."""
    ninth = np.divide(variance, 9 * mean**2, out=np.zeros_like(variance), where=mean > 0)
    return mean * np.maximum(0, 1 - ninth + z * np.sqrt(ninth)) ** 3
