"""Gradients of single samples from one batch: products of what went in with the gradient of what came out.

A product y = W x has, for sample n, dL_n/dW = sum over positions of g x^T. So the rows g and columns x of a batch hold
every sample's gradient, which is exact and costs no second backward pass. Goodfellow 2015, arXiv 1510.01799.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.layout import channels_last
from .reductions import products
from .taps import Tap

ENTRIES = 1 << 22  # of per-sample gradients that are held at once


def patches(x: Tensor, kernel: Sequence[int], tap: Tap, places: Sequence[int]) -> Tensor:
    """[B, C, K, P]: the entries of x [B, C, *S] that each of K = prod(kernel) offsets meets at P = prod(places) positions."""
    if len(kernel) == 2 and all(low == high for low, high in tap.padding):
        pads = tuple(low for low, _ in tap.padding)
        return F.unfold(x, tuple(kernel), tap.dilation, pads, tap.stride).unflatten(1, (x.shape[1], -1))
    x = F.pad(x, [p for pair in reversed(tap.padding) for p in pair])
    found = []
    for offset in product(*map(range, kernel)):
        spans = zip(offset, tap.dilation, tap.stride, places, strict=True)
        part = x
        for dim, (o, d, s, n) in enumerate(spans, 2):
            part = part.narrow(dim, o * d, s * (n - 1) + 1)[(slice(None),) * dim + (slice(None, None, s),)]
        found.append(part.flatten(2))
    return torch.stack(found, 2)


def matrices(tap: Tap, shape: Sequence[int], batch: int | None) -> tuple[Tensor, Tensor]:
    """Rows [N, groups, P, r] and columns [N, groups, P, c] of a tap: sample n's gradient is rows^T columns [groups, r, c].

    shape: the weight's; its entries are (groups * r, c). batch: the dim of inputs that counts samples; None for one sample.
    """
    x, gradient = tap.inputs, tap.gradient
    assert gradient is not None
    if tap.kind == "linear":
        rows, columns = (one.movedim(batch, 0) if batch is not None else one.unsqueeze(0) for one in (gradient, x))
        return rows.reshape(len(rows), 1, -1, shape[0]), columns.reshape(len(columns), 1, -1, shape[1])
    if x.ndim < len(shape):  # without a batch
        x, gradient = x.unsqueeze(0), gradient.unsqueeze(0)
    kernel, g = shape[2:], tap.groups
    if tap.kind == "conv":
        wide = patches(x, kernel, tap, gradient.shape[2:])  # [B, C, K, P]
        narrow = gradient.flatten(2)
    else:
        wide = patches(gradient, kernel, tap, x.shape[2:])
        narrow = x.flatten(2)
    many = wide.reshape(len(wide), g, -1, wide.shape[-1]).transpose(2, 3)  # [B, g, P, c]
    few = narrow.reshape(len(narrow), g, -1, narrow.shape[-1]).transpose(2, 3)  # [B, g, P, r]
    if batch is None:  # several images of one sample are positions of it
        few, many = (one.transpose(0, 1).flatten(1, 2).unsqueeze(0) for one in (few, many))
    return few, many


def squares(rows: Tensor, columns: Tensor) -> Tensor:
    """Sum over samples of their squared gradients, [groups, r, c]."""
    if rows.shape[2] == 1:  # one position: (g x^T)^2 = g^2 (x^2)^T
        r, c = rows[:, :, 0].transpose(0, 1), columns[:, :, 0].transpose(0, 1)  # [groups, N, .]
        return r.square().transpose(1, 2) @ c.square()
    total = rows.new_zeros(rows.shape[1], rows.shape[3], columns.shape[3])
    size = max(1, ENTRIES // total.numel())
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        total += torch.linalg.vector_norm(rows[part].transpose(2, 3) @ columns[part], 2, 0).square()
    return total


def joined(taps: Sequence[Tap]) -> Tap:
    """Calls of one linear layer (the steps of a recurrent one) as one call; along a new dim where shapes allow."""
    if len(taps) == 1:
        return taps[0]
    flat = {
        what: [
            getattr(tap, what).reshape(-1, getattr(tap, what).shape[-1])
            for tap in taps
            if getattr(tap, what) is not None
        ]
        for what in ("inputs", "gradient")
    }
    made = Tap(taps[0].name, taps[0].kind, torch.cat(flat["inputs"]), ())
    made.gradient = torch.cat(flat["gradient"]) if len(flat["gradient"]) == len(taps) else None
    return made


def input_products(tap: Tap, ndim: int, batch: int | None) -> Tensor:
    """[N, features]: x dL/dx of a product's input, summed over positions; N = 1 where samples cannot be told apart."""
    x, back = tap.inputs, tap.back
    assert back is not None
    if tap.kind != "linear":
        x, back = (one if one.ndim == ndim else one.unsqueeze(0) for one in (x, back))
        if not channels_last(x):
            found = (x * back).flatten(2).sum(2)
            return found if batch is not None else found.sum(0, keepdim=True)
        x, back = x.movedim(1, -1), back.movedim(1, -1)
    samples = 1 if batch is None else x.shape[batch]
    before = 1 if batch is None else prod(x.shape[:batch])
    return products(*(one.reshape(before, samples, -1, x.shape[-1]) for one in (x, back)))


def patch_squares(tap: Tap, total: Tensor, shape: Sequence[int]) -> Tensor:
    """[groups, 1 or r, 1 or c]: how large, squared and summed, the input is that each weight meets; total: as Moments.add gives it."""
    if tap.kind == "linear":
        return total[None, None, :]
    if tap.kind == "transposed":
        return total.flatten(1).sum(1).reshape(tap.groups, -1, 1)
    found = patches(total[None], shape[2:], tap, tap.output[-(len(shape) - 2) :])[0].sum(2)  # [C, K]
    return found.reshape(tap.groups, 1, -1)


def embedding_sums(tap: Tap, shape: Sequence[int], batch: int | None, scale: float) -> tuple[Tensor, Tensor]:
    """Sums over samples of the gradients of an embedding's table [V, D], and of their squares; a sample's gradient of a row is the
    sum over its places, times ``scale``."""
    assert tap.gradient is not None
    gradient = tap.gradient * scale
    tokens, g = (tap.inputs, gradient) if batch is None else (tap.inputs.movedim(batch, 0), gradient.movedim(batch, 0))
    n = 1 if batch is None else len(tokens)
    tokens, g = tokens.reshape(n, -1), g.reshape(n, -1, shape[1])
    keys = (torch.arange(n, device=tokens.device)[:, None] * shape[0] + tokens).flatten()
    if tap.padding_idx is not None:
        g = g.masked_fill((tokens == tap.padding_idx)[..., None], 0.0)
    unique, place = keys.unique(return_inverse=True)
    own = g.new_zeros(len(unique), shape[1]).index_add_(0, place, g.flatten(0, 1))  # a row for each (sample, token)
    first, second = (g.new_zeros(tuple(shape)) for _ in range(2))
    first.index_add_(0, unique % shape[0], own)
    return first, second.index_add_(0, unique % shape[0], own.square())
