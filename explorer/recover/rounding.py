"""One weight's rounding while it is trained: straight through, or as a codebook whose values are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..compress.codes import Codes, Table
from ..models.device import precise

Fit = Callable[[Tensor], Codes]


class Rounding(ABC):
    """fit: weight (masked, finite) -> codes; None where they stay as they are. cheap: it may be done in every step."""

    def __init__(self, codes: Codes | None, fit: Fit | None = None, cheap: bool = False) -> None:
        self.codes, self.fit, self.cheap = codes, fit, cheap and fit is not None

    shared = False  # the weight itself is rounded, and nothing stands behind it

    def forget(self) -> None:  # noqa: B027
        """Other weights stay than before."""

    def refit(self, weight: Tensor, mask: Tensor | None) -> None:
        """Find the codes anew for ``weight``."""
        if self.fit is not None:
            self.codes = self.fit(weight if mask is None else weight * mask)
        assert self.codes is not None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside the weight."""
        names = [one.name for one in fields(self.codes)] if self.codes is not None and not self.cheap else []
        return {name: value for name in names if isinstance(value := getattr(self.codes, name), Tensor)}

    def load(self, state: Mapping[str, Tensor], weight: Tensor, mask: Tensor | None) -> None:
        """The inverse of :meth:`state`, for the same weight."""
        self.refit(weight, mask)
        assert self.codes is not None
        known = {one.name for one in fields(self.codes)}
        values: dict[str, Any] = {name: value for name, value in state.items() if name in known}
        self.codes = replace(self.codes, **values)

    @abstractmethod
    def __call__(self, weight: Tensor, mask: Tensor | None) -> Tensor:
        """The rounded weight."""

    @abstractmethod
    def turn(self, grad: Tensor, weight: Tensor, mask: Tensor | None) -> None:
        """Turn the gradient of the rounded weight into that of ``weight``, in place."""

    def tie(self, weight: Tensor, mask: Tensor | None) -> None:  # noqa: B027
        """After a step: whatever has to be equal is so to the last bit."""


class StraightThrough(Rounding):
    """The gradient of the rounded weight is taken for that of the weight, where the codes' range does not clip it.

    Source: Bengio, Leonard, Courville 2013, arXiv 1308.3432, section 3.4; Jacob et al. 2018, arXiv 1712.05877, section 3. With clipping it
    equals the gradient of torch.fake_quantize_per_tensor_affine; of ternary, binary and power-of-two levels all passes.
    """

    def __call__(self, weight: Tensor, mask: Tensor | None) -> Tensor:
        if self.codes is None:
            self.refit(weight, mask)
        assert self.codes is not None
        return self.codes.fake_quantize(weight if mask is None else weight * mask)

    def turn(self, grad: Tensor, weight: Tensor, mask: Tensor | None) -> None:
        assert self.codes is not None
        passes = self.codes.passes(weight)
        if passes is not None:
            grad.masked_fill_(~passes, 0.0)


class Codebook(Rounding):
    """Shared weights: each entry keeps the center that it was given, and the centers are what is trained.

    A center's gradient is the sum of the gradients of its weights. Every weight is handed that sum, so any optimizer that works entry by
    entry moves all weights of a center alike, exactly as it would move the center.
    Source: Han, Mao, Dally 2016, Deep Compression, arXiv 1510.00149, section 3.3, eq. 3.
    """

    codes: Table | None

    shared = True

    def __init__(self, codes: Codes | None, fit: Fit | None = None) -> None:
        super().__init__(codes, fit, False)
        self.places: Tensor | None = (
            None  # of the entries that have a center, which zeros have not, in the flattened rows of slices
        )
        self.owner: Tensor | None = None  # the center of each, counted over all slices
        self.first: Tensor | None = None  # [centers]: the place of the first entry of each, or -1

    def refit(self, weight: Tensor, mask: Tensor | None) -> None:
        if self.codes is None:  # once: which weights share a center stays as it is
            super().refit(weight, mask)
            self.places = None

    def state(self) -> dict[str, Tensor]:
        more = {"places": self.places, "owner": self.owner, "first": self.first}
        return super().state() | {name: value for name, value in more.items() if value is not None}

    def load(self, state: Mapping[str, Tensor], weight: Tensor, mask: Tensor | None) -> None:
        super().load(state, weight, mask)
        self.places, self.owner, self.first = (state.get(name) for name in ("places", "owner", "first"))

    def forget(self) -> None:
        self.places = None
        if self.fit is not None:
            self.codes = None

    def _assign(self, weight: Tensor, mask: Tensor | None) -> tuple[Table, Tensor, Tensor, Tensor]:
        """The codes, the entries that have a center, which one, and a first entry of each center: found once."""
        if self.codes is None:
            self.refit(weight, mask)
        assert isinstance(self.codes, Table)
        if self.places is None or self.owner is None or self.first is None:
            rows = self.codes.slices.rows((weight if mask is None else weight * mask).float()).contiguous()
            k = self.codes.centers.shape[1]
            index = (
                torch.searchsorted(self.codes.edges, rows) + k * torch.arange(len(rows), device=rows.device)[:, None]
            )
            self.places = (rows != 0).flatten().nonzero().flatten()
            self.owner = index.flatten()[self.places]
            n = rows.numel()
            first = torch.full((len(rows) * k,), n, device=rows.device).scatter_reduce(
                0, self.owner, self.places, "amin"
            )
            self.first = torch.where(first < n, first, -1)
        return self.codes, self.places, self.owner, self.first

    def __call__(self, weight: Tensor, mask: Tensor | None) -> Tensor:
        fresh = self.places is None
        codes, places, owner, first = self._assign(weight, mask)
        centers = codes.centers.to(weight).flatten()
        rows = codes.slices.rows(weight)
        if not fresh:  # weights that are tied: the first one tells, where there is one
            centers = torch.where(first >= 0, rows.flatten()[first.clamp(min=0)], centers)
        found = torch.zeros_like(rows).flatten()
        found[places] = centers[owner]
        return codes.slices.back(found.reshape(rows.shape), weight.shape)

    def turn(self, grad: Tensor, weight: Tensor, mask: Tensor | None) -> None:
        codes, places, owner, first = self._assign(weight, mask)
        rows = codes.slices.rows(grad)
        where = precise(grad.device)
        mine = rows.flatten()[places].to(where).double()
        sums = torch.zeros(len(first), dtype=torch.float64, device=where).index_add_(0, owner.to(where), mine)
        found = torch.zeros_like(rows).flatten()
        found[places] = sums.to(grad.dtype).to(grad.device)[owner]
        grad.copy_(codes.slices.back(found.reshape(rows.shape), grad.shape))

    def tie(self, weight: Tensor, mask: Tensor | None) -> None:
        weight.data.copy_(self(weight.detach(), mask))


def rounding_of(codes: Codes) -> Rounding:
    """Rounding with codes that stay: a codebook's values are trained, everything else is straight through."""
    return Codebook(codes) if codes.scheme == "codebook" else StraightThrough(codes)
