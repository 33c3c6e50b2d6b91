"""What the k-means quantizers share; they differ by where the centers start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..codes import Codes, Table
from ..kmeans import levels_of, lloyd, ordered
from ..slices import Slices
from . import Quantizer


class Codebook(Quantizer):
    """A codebook of 2^b free levels."""

    bits = tuple(range(1, 9))
    schemes = ("symmetric",)
    searches = True
    start: Callable[[Tensor, Tensor, int], Tensor]

    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        values, count = ordered(slices.rows(weight).float())
        k = 2**bits
        centers = levels_of(values, count, k)  # of weights with so few values these are the centers of least squares, and no search is
        if centers is None:
            centers = lloyd(values, count, type(self).start(values, count, k))
        centers = centers.float().to(weight.device)
        edges = (centers[:, 1:] + centers[:, :-1]) / 2
        edges = torch.where(edges < centers[:, 1:], edges, centers[:, :-1])  # between neighbours in float32 there is nothing
        return Table(bits, "codebook", slices, centers, edges, stored=4 * k, sparse=True)
