"""Counting scores below a threshold without looking at them all: bins indexed by a float's own bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SHIFT = 16  # the sign, the exponent and 7 bits of the fraction name a bin: logarithmic, 128 to every power of two
BINS = 1 << 16
SORTED = 1 << 22  # scores up to which a sorted copy of them is kept, too: then a rank costs no look at the scores


def _keys(values: Tensor) -> Tensor:
    """int32 that are in the order of the float32 values, negative ones included."""
    bits = (values + 0.0).contiguous().view(torch.int32)  # -0.0 becomes 0.0, which it equals
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _bin(value: float) -> int:
    bits = int(np.float32(value + 0.0).view(np.int32))
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> SHIFT) + BINS // 2


class Bins:
    """How many of a tensor's float32 scores lie in each bin; built in one pass, asked in microseconds.

    Every count and every k-th value is exact, so a slider's place is a rank, and no threshold has to snap to an edge.
    """

    def __init__(self, scores: Tensor) -> None:
        index = (_keys(scores.detach().reshape(-1)) >> SHIFT) + BINS // 2
        self.cumulative = np.concatenate(([0], torch.bincount(index, minlength=BINS).cumsum(0).cpu().numpy()))
        self.total = int(self.cumulative[-1])
        few = scores.device.type == "cpu" and self.total <= SORTED
        self.ranked = np.sort(scores.detach().reshape(-1).numpy()) if few else None

    def below(self, threshold: float, scores: Tensor) -> int:
        """How many of the scores are at most ``threshold``; they are looked at only where their bin holds some."""
        threshold = float(np.float32(threshold))
        here = _bin(threshold)
        before, after = int(self.cumulative[here]), int(self.cumulative[here + 1])
        return after if before == after else int((scores <= threshold).sum())

    def kth(self, k: int, scores: Tensor) -> float:
        """The k-th smallest of the scores, 1 <= k <= total."""
        if self.ranked is not None:
            return float(self.ranked[k - 1])
        here = int(np.searchsorted(self.cumulative, k, side="left")) - 1
        flat = scores.reshape(-1)
        inside = flat[((_keys(flat) >> SHIFT) + BINS // 2) == here]
        return float(inside.kthvalue(k - int(self.cumulative[here])).values)

    def cut(self, k: int, scores: Tensor) -> float | None:
        """The k-th smallest of the scores, 1 <= k <= total, where exactly k are no larger; None where others tie with it."""
        value = self.kth(k, scores)
        if self.ranked is not None:
            return value if k == self.total or float(self.ranked[k]) > value else None
        return value if self.below(value, scores) == k else None
