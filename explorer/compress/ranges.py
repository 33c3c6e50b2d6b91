"""From clipping ranges to scales and zero points: the formula that all uniform quantizers share."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.device import precise
from .codes import Uniform
from .slices import Slices


def code_range(bits: int, scheme: str) -> tuple[int, int]:
    """(lowest, highest) code: symmetric +-(2^(b-1) - 1), affine 0 to 2^b - 1."""
    most = 2 ** (bits - 1) - 1
    return (-most, most) if scheme == "symmetric" else (0, 2**bits - 1)


def uniform(least: Tensor, most: Tensor, bits: int, scheme: str, slices: Slices) -> Uniform:
    """Codes over the range [least, most] of each slice, both [slices] float32.

    Symmetric: scale = max(|least|, |most|) / (2^(b-1) - 1), zero point 0. Affine: the range widened to include 0,
    scale = (most - least) / (2^b - 1), zero point = round(-least / scale). A slice without a range has scale 1.
    """
    low, high = code_range(bits, scheme)
    if scheme == "symmetric":
        scale = torch.maximum(least.abs(), most.abs()) / high
        zero = torch.zeros_like(scale, dtype=torch.int32)
    else:
        least, most = least.clamp(max=0), most.clamp(min=0)
        scale = (most - least) / high
        safe = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero = torch.round(-least / safe).clamp(low, high).int()
    # a slice of zeros, or of values so small that their step underflows, has nothing to resolve
    scale = torch.where(1.0 / scale < torch.inf, scale, torch.ones_like(scale))
    shape = slices.parameters
    return Uniform(bits, scheme, slices, scale.reshape(shape), zero.reshape(shape), low, high)


def reach(rows: Tensor, scheme: str) -> tuple[Tensor, Tensor]:
    """(least, most) [slices] of rows [slices, n]: +-max|w| for symmetric, the range widened to include 0 for affine."""
    if scheme == "symmetric":
        most = rows.abs().amax(1)
        return -most, most
    return rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)


def quantile(rows: Tensor, q: float) -> Tensor:
    """[slices]: the quantile of the entries of each row that are not zero, linear between neighbours; 0 where all are."""
    ordered = torch.where(rows == 0, torch.inf, rows).sort(1).values
    count = (rows != 0).sum(1)
    place = q * (count - 1).clamp(min=0).cpu().double()
    below, above, part = (
        one.to(rows.device) for one in (place.floor().long(), place.ceil().long(), place.frac().float())
    )
    first, second = (ordered.gather(1, index[:, None])[:, 0] for index in (below, above))
    found = first + (second - first) * part
    return torch.where(count > 0, found, torch.zeros_like(found))


def mean(sizes: Tensor, taken: Tensor) -> Tensor:
    """[slices]: the mean of the entries of each row that are taken; 0 where none is. Summed in float64, so that the mean of equal values
    is that value, and what was quantized is not changed by being quantized again."""
    wide = sizes.to(precise(sizes.device)).double()
    total = (wide * taken.to(wide.device)).sum(1) / taken.to(wide.device).sum(1).clamp(min=1)
    return total.float().to(sizes.device)


FACTORS = torch.linspace(1.0, 0.01, 100).tolist()  # of the largest size: the thresholds that a search tries


def clipped(least: Tensor, most: Tensor, factor: Tensor | float) -> tuple[Tensor, Tensor]:
    """The range [least, most] cut to [-t, t] with t = factor * max(|least|, |most|)."""
    t = torch.maximum(least.abs(), most.abs()) * factor
    return torch.maximum(least, -t), torch.minimum(most, t)
