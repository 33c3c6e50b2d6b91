"""k-means of numbers: Lloyd's iterations on sorted values, all slices at once."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 1000


def ordered(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(float64 [slices, n] ascending with infinity for zeros, which are pruned and take no part; [slices] how many take part)."""
    rows = rows.cpu()  # float64 is to be had there, and a search over sorted values needs no more
    return torch.where(rows == 0, torch.inf, rows.double()).sort(1).values, (rows != 0).sum(1)


def levels_of(values: Tensor, count: Tensor, k: int) -> Tensor | None:
    """[slices, k]: the different values of each slice, ascending, the last repeated; None where a slice has more than k.

    values, count: of :func:`ordered`.
    """
    real = torch.arange(values.shape[1], device=values.device) < count[:, None]
    first = real & torch.nn.functional.pad(values[:, 1:] != values[:, :-1], (1, 0), value=True)
    place = first.cumsum(1) - 1
    if int(place[:, -1:].max() if place.numel() else 0) >= k:
        return None
    last = values.gather(1, (count - 1).clamp(min=0)[:, None])
    found = torch.where(count[:, None] > 0, last, torch.zeros_like(last)).repeat(1, k)
    row, column = first.nonzero(as_tuple=True)
    found[row, place[row, column]] = values[row, column]
    return found


def linear(values: Tensor, count: Tensor, k: int) -> Tensor:
    """[slices, k]: centers evenly spaced from the least to the largest value."""
    first, last = _ends(values, count)
    return first + (last - first) * torch.linspace(0, 1, k, dtype=values.dtype, device=values.device)


def density(values: Tensor, count: Tensor, k: int) -> Tensor:
    """[slices, k]: centers at evenly spaced heights of the cumulative distribution."""
    heights = (torch.arange(k, device=values.device) + 0.5) / k
    places = (heights * count[:, None]).long()
    return _at(values, count, places)


def random(values: Tensor, count: Tensor, k: int) -> Tensor:
    """[slices, k]: k different entries, drawn with seed 0 (Forgy), ascending."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for n in count.tolist():
        places = torch.randperm(n, generator=generator)[:k].sort().values
        found.append(torch.nn.functional.pad(places, (0, k - len(places)), value=max(n - 1, 0)))
    return _at(values, count, torch.stack(found).to(values.device))


def _at(values: Tensor, count: Tensor, places: Tensor) -> Tensor:
    """Values at places of each slice; 0 in slices without any."""
    found = values.gather(1, torch.minimum(places, (count - 1).clamp(min=0)[:, None]))
    return torch.where(count[:, None] > 0, found, torch.zeros_like(found))


def _ends(values: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    zero = torch.zeros_like(count)[:, None]
    return _at(values, count, zero), _at(values, count, (count - 1).clamp(min=0)[:, None])


def lloyd(values: Tensor, count: Tensor, centers: Tensor) -> Tensor:
    """Centers [slices, k] of k-means from the given ones, until no value changes its center (at most 1000 rounds).

    values, count: of :func:`ordered`. A center that loses all of its values moves to the value that is farthest from its own
    center, as scikit-learn does. In one dimension a cluster is a run of the sorted values, so a round costs k binary searches
    and differences of prefix sums instead of n * k distances. Source: Lloyd 1982, IEEE Trans. Inf. Theory 28(2).
    """
    real = torch.where(values.isfinite(), values, torch.zeros_like(values))
    sums = torch.nn.functional.pad(real.cumsum(1), (1, 0))
    bounds = torch.empty(0)
    for _ in range(ROUNDS):
        centers = centers.sort(1).values
        before, bounds = bounds, _bounds(values, count, centers)
        if before.shape == bounds.shape and torch.equal(before, bounds):
            break
        size, total = bounds.diff(dim=1), sums.gather(1, bounds).diff(dim=1)
        empty = (size == 0).any(1) & (count > 0)
        for index in empty.nonzero().flatten().tolist():
            _relocate(values[index, : int(count[index])], centers[index], bounds[index], size[index], total[index])
        centers = torch.where(size > 0, total / size.clamp(min=1), centers)
    return centers.sort(1).values


def _bounds(values: Tensor, count: Tensor, centers: Tensor) -> Tensor:
    """[slices, k + 1]: where in the sorted values the run of each center begins and ends."""
    edges = ((centers[:, 1:] + centers[:, :-1]) / 2).contiguous()
    inner = torch.minimum(torch.searchsorted(values.contiguous(), edges, right=True), count[:, None])
    return torch.cat([torch.zeros_like(count)[:, None], inner, count[:, None]], 1)


def _relocate(values: Tensor, centers: Tensor, bounds: Tensor, size: Tensor, total: Tensor) -> None:
    """Give each empty center of one slice the farthest value; sizes and totals are corrected in place."""
    owner = torch.repeat_interleave(torch.arange(len(centers), device=values.device), size)
    distance = (values - centers[owner]).abs()
    idle = (size == 0).nonzero().flatten()
    far = torch.topk(distance, min(len(idle), len(values)))
    for at, place in enumerate(far.indices.tolist()):
        if far.values[at] <= 0:
            return  # fewer different values than centers
        old, new = owner[place], idle[at]
        if size[old] == 1:
            continue
        total[old] -= values[place]
        size[old] -= 1
        total[new], size[new] = values[place], 1
