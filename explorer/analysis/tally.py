"""How many entries of a tensor have which bits: built in one pass, asked for thresholds, sparsity and histograms in microseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.kept import kept_property
from .patterns import WIDE, values

# of one tally's entries with these leading magnitude bits, how often each rest occurs
Inside = Callable[["Tally", int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Tally:
    """The entries of one tensor, counted by their bits.

    dtype: the format, by safetensors' name. patterns: uint32, ascending, those that occur: whole ones of 8- and 16-bit formats,
    the leading 16 bits of F32 (sign, exponent, 7 bits of the fraction); F64 is counted as rounded to F32. counts: int64, of
    each. zeros: entries that are +-0.
    """

    dtype: str
    patterns: np.ndarray
    counts: np.ndarray
    zeros: int

    @property
    def exact(self) -> bool:
        """Whether a pattern is one value, so that every answer is exact without a second look."""
        return self.dtype not in WIDE

    @kept_property
    def total(self) -> int:
        """Entries."""
        return int(self.counts.sum())

    @property
    def sparsity(self) -> float:
        """The fraction of zeros."""
        return self.zeros / self.total if self.total else 0.0

    @kept_property
    def _magnitudes(self) -> tuple[np.ndarray, np.ndarray]:
        """(float32 bits of |value|, or of the least |value| of a bin, ascending; entries). NaN lies above infinity."""
        if self.exact:
            keys = np.abs(values(self.dtype)[self.patterns]).view(np.uint32)
        else:
            keys = (self.patterns & 0x7FFF) << 16
        found, where = np.unique(keys, return_inverse=True)
        return found, np.bincount(where, self.counts, len(found)).astype(np.int64)

    @kept_property
    def _up_to(self) -> np.ndarray:
        return np.cumsum(self._magnitudes[1])

    @kept_property
    def not_finite(self) -> int:
        """Entries that are NaN or infinite."""
        keys, counts = self._magnitudes
        return int(counts[keys >= 0x7F800000].sum())

    @kept_property
    def largest(self) -> float:
        """The largest finite |value|; of a wide format the end of its bin, less than 1/128 above it."""
        keys, counts = self._magnitudes
        last = keys[(keys < 0x7F800000) & (counts > 0)]
        if not len(last) or self.zeros == self.total:
            return 0.0
        return _value(last[-1] if self.exact else last[-1] | np.uint32(0xFFFF))

    def below(self, threshold: float, inside: Inside | None = None) -> int:
        """How many entries have |value| <= threshold, a float32.

        Of a wide format exact with ``inside``, or where the threshold is the largest value of a bin; else to one bin.
        """
        cut = np.float32(threshold + 0.0)  # -0.0 equals 0.0, but for its bits
        if not cut >= 0:
            return 0
        key, (keys, _) = int(cut.view(np.uint32)), self._magnitudes
        if self.exact:
            place = int(np.searchsorted(keys, key, side="right"))
            return int(self._up_to[place - 1]) if place else 0
        place = int(np.searchsorted(keys, key & 0xFFFF0000, side="left"))
        before = int(self._up_to[place - 1]) if place else 0
        if place == len(keys) or keys[place] != key & 0xFFFF0000:
            return before
        if key & 0xFFFF == 0xFFFF:
            return int(self._up_to[place])
        if inside is not None:
            return before + int(inside(self, key >> 16)[: (key & 0xFFFF) + 1].sum())
        return self.zeros if key < 1 << 16 else before

    def kth(self, k: int, inside: Inside | None = None) -> float:
        """The k-th smallest |value|, 1 <= k <= total; see :func:`kth`."""
        return kth([self], k, inside)

    def quantiles(self, n: int) -> np.ndarray:
        """float32 [n]: evenly spaced quantiles of |value| among the finite entries; of a wide format by their place within a bin."""
        keys, counts = self._magnitudes
        finite = keys < 0x7F800000
        total = int(counts[finite].sum())
        if not total:
            return np.zeros(n, np.float32)
        at = np.round(np.linspace(0, total - 1, n)).astype(np.int64) + 1
        place = np.searchsorted(self._up_to, at, side="left")
        found = keys[place].view(np.float32).astype(np.float64)
        if not self.exact:
            share = (at - (self._up_to - counts)[place] - 0.5) / counts[place]
            width = (keys[place] + np.uint32(0x10000)).view(np.float32) - found
            found = np.where(at <= self.zeros, 0.0, found + share * np.where(np.isfinite(width), width, 0.0))
        return found.astype(np.float32)

    def histogram(self, bins: int) -> tuple[float, np.ndarray]:
        """(m, int64 [bins]): the finite entries in equal bins over [-m, m]; of a wide format spread evenly over their bin."""
        m = self.largest or 0.5
        if self.exact:
            low = high = values(self.dtype)[self.patterns].astype(np.float64)
        else:
            edges = [
                ((self.patterns << np.uint32(16)) | rest).astype(np.uint32).view(np.float32) for rest in (0, 0xFFFF)
            ]
            low, high = (one.astype(np.float64) for one in (np.minimum(*edges), np.maximum(*edges)))
        fine = np.isfinite(low) & np.isfinite(high)
        low, high, counts = low[fine], high[fine], self.counts[fine].astype(np.float64)
        if self.exact:
            return m, np.histogram(low, bins, (-m, m), weights=counts)[0].round().astype(np.int64)
        ends = np.linspace(-m, m, bins + 1)
        width = np.maximum(high - low, 1e-300)
        share = np.clip((ends[:, None] - low) / width, 0, 1) @ counts  # entries below each end
        share[0], share[-1] = 0, counts.sum()
        return m, np.diff(np.round(share)).astype(np.int64)


def tally(dtype: str, counts: np.ndarray, zeros: int | None = None) -> Tally:
    """From counts of all patterns, [256] or [65536]; zeros: of a wide format, which its bins do not tell."""
    present = np.flatnonzero(counts).astype(np.uint32)
    if zeros is None:
        zeros = int(counts[values(dtype) == 0].sum())
    return Tally(dtype, present, counts[present].astype(np.int64), zeros)


def kth(tallies: Sequence[Tally], k: int, inside: Inside | None = None) -> float:
    """The k-th smallest |value| of all entries of several tensors together, 1 <= k <= their number.

    First the bin of leading bits is found, then the place within it: ``inside`` counts that bin of a wide tensor in a second
    look at its entries. Without it, and with wide tensors, the largest value of the bin.
    """
    total = sum(one.total for one in tallies)
    if not 1 <= k <= total:
        raise ValueError(f"k={k}; accepted: 1 to {total}")
    coarse = np.zeros(1 << 16, np.int64)
    for one in tallies:
        keys, counts = one._magnitudes
        np.add.at(coarse, keys >> 16, counts)
    up_to = np.cumsum(coarse)
    here = int(np.searchsorted(up_to, k, side="left"))
    k -= int(up_to[here] - coarse[here])
    fine = np.zeros(1 << 16, np.int64)
    for one in tallies:
        keys, counts = one._magnitudes
        mine = keys >> 16 == here
        if one.exact:
            np.add.at(fine, keys[mine] & 0xFFFF, counts[mine])
        elif mine.any():
            if inside is None:
                return _value(np.uint32(here << 16 | 0xFFFF))
            fine += inside(one, here)
    return _value(np.uint32(here << 16 | int(np.searchsorted(np.cumsum(fine), k, side="left"))))


def _value(key: np.uint32) -> float:
    return float(np.uint32(key).view(np.float32))
