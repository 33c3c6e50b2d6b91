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
    out = centers.sort(1).values
    left = torch.arange(len(out), device=out.device)  # slices that still move
    sums = torch.nn.functional.pad(torch.where(values.isfinite(), values, 0.0).cumsum(1), (1, 0))
    centers, before = out, torch.empty(0)
    for _ in range(ROUNDS):
        bounds = _bounds(values, count, centers)
        if len(before):
            moving = (bounds != before).any(1)
            if not bool(moving.all()):
                out[left[~moving]] = centers[~moving]
                values, count, sums, centers, bounds, left = (
                    one[moving] for one in (values, count, sums, centers, bounds, left)
                )
                if not len(left):
                    return out
        size, total = bounds.diff(dim=1), sums.gather(1, bounds).diff(dim=1)
        empty = ((size == 0).any(1) & (count > 0)).nonzero().flatten()
        if len(empty):
            size[empty], total[empty] = _relocated(
                *(one[empty] for one in (values, count, centers, bounds, size, total))
            )
        centers, before = torch.where(size > 0, total / size.clamp(min=1), centers).sort(1).values, bounds
    out[left] = centers
    return out


def _bounds(values: Tensor, count: Tensor, centers: Tensor) -> Tensor:
    """[slices, k + 1]: where in the sorted values the run of each center begins and ends."""
    edges = ((centers[:, 1:] + centers[:, :-1]) / 2).contiguous()
    inner = torch.minimum(torch.searchsorted(values.contiguous(), edges, right=True), count[:, None])
    return torch.cat([torch.zeros_like(count)[:, None], inner, count[:, None]], 1)


def _relocated(
    values: Tensor, count: Tensor, centers: Tensor, bounds: Tensor, size: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """(sizes, totals) after each empty center of every slice took the farthest value left; a center gives all but its last."""
    place = torch.arange(values.shape[1], device=values.device).expand(len(values), -1)
    owner = torch.searchsorted(bounds[:, 1:-1].contiguous(), place.contiguous(), right=True)
    distance = torch.where(place < count[:, None], (values - centers.gather(1, owner)).abs(), -1.0)
    idle = size == 0
    most = min(int(idle.sum(1).max()), values.shape[1])
    new = idle.int().sort(dim=1, descending=True, stable=True).indices  # empty centers first
    far = torch.topk(distance, most)
    wanted = (torch.arange(most, device=values.device) < idle.sum(1)[:, None]) & (
        far.values > 0
    )  # else fewer values than centers
    for at in range(most):
        old = owner.gather(1, far.indices[:, at : at + 1])
        takes = wanted[:, at : at + 1] & (size.gather(1, old) > 1)
        value = torch.where(takes, values.gather(1, far.indices[:, at : at + 1]), 0.0)
        total = total.scatter_add(1, old, -value).scatter_add(1, new[:, at : at + 1], value)
        size = size.scatter_add(1, old, -takes.long()).scatter_add(1, new[:, at : at + 1], takes.long())
    return size, total
