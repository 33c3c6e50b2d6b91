"""Which entries a cut prunes. Pure functions of scores; exactly torch.nn.utils.prune's choice where it has one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)


def above(scores: Tensor, threshold: float) -> Tensor:
    """Bool: scores > threshold, a float32 whatever the scores' type. By numpy on a CPU, which makes bools ten times as fast as torch."""
    if scores.dtype in HALVES:  # torch would round the threshold to such a type, perhaps to a score that is above it
        scores = scores.float()
    if scores.device.type != "cpu" or scores.dtype != torch.float32 or scores.requires_grad:
        return scores > threshold
    return torch.from_numpy(np.asarray(scores.numpy() > np.float32(threshold)))


def masked(weight: Tensor, mask: Tensor) -> Tensor:
    """The weight with zeros where the mask is False."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.requires_grad:
        return weight * mask
    # of integers: no mask of floats has to be made, which takes two thirds of the time
    return torch.from_numpy(np.asarray(weight.view(torch.int32).numpy() * mask.numpy()).view(np.float32))


def count_nonzero(tensor: Tensor) -> int:
    """How many entries are not zero."""
    if tensor.device.type == "cpu" and tensor.dtype == torch.bool:
        return int(np.count_nonzero(tensor.numpy()))
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
        return int(torch.count_nonzero(tensor))
    return int(np.count_nonzero(tensor.detach().numpy() != 0))  # bools are what numpy counts fast


def lowest(scores: Tensor, k: int) -> Tensor:
    """Bool, True for the ``k`` lowest scores, ties as torch.topk breaks them."""
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    if k > 0:
        chosen[torch.topk(scores.reshape(-1), k, largest=False).indices] = True
    return chosen.view_as(scores)


def by_sparsity(scores: Sequence[Tensor], alive: Sequence[Tensor | None], sparsity: float) -> list[Tensor]:
    """Masks (True = stays) after one ranking over all tensors: exactly ``round(sparsity * n)`` of the n alive go."""
    flat = [s.reshape(-1) if a is None else s[a] for s, a in zip(scores, alive, strict=True)]
    cut = lowest(torch.cat(flat) if len(flat) > 1 else flat[0], round(sparsity * sum(len(f) for f in flat)))
    masks, start = [], 0
    for s, a, f in zip(scores, alive, flat, strict=True):
        piece = ~cut[start : start + len(f)]
        start += len(f)
        if a is None:
            masks.append(piece.view(s.shape))
        else:
            mask = torch.zeros_like(a)
            mask[a] = piece
            masks.append(mask)
    return masks


def by_threshold(scores: Tensor, alive: Tensor | None, threshold: float) -> Tensor:
    """Mask (True = stays): scores above the threshold."""
    mask = above(scores, threshold)
    return mask if alive is None else mask & alive


def by_pattern(scores: Tensor, n: int, m: int) -> Tensor:
    """N:M: of every m consecutive entries along dim 1 (the inputs), the n highest stay.

    Entries of a last, incomplete run of fewer than m stay: hardware has no pattern for them.
    Source: Mishra et al. 2021, arXiv 2104.08378, section 2.
    """
    rows = scores.movedim(1, -1)  # [out, ..., in]
    runs = rows.shape[-1] // m
    mask = torch.ones(rows.shape, dtype=torch.bool, device=scores.device)
    if runs:
        whole = rows[..., : runs * m].reshape(*rows.shape[:-1], runs, m)
        best = torch.topk(whole, n, dim=-1).indices
        kept = torch.zeros(whole.shape, dtype=torch.bool, device=scores.device).scatter_(-1, best, True)
        mask[..., : runs * m] = kept.reshape(*rows.shape[:-1], runs * m)
    return mask.movedim(-1, 1).contiguous()


def block_sums(scores: Tensor, rows: int, columns: int) -> Tensor:
    """[ceil(out / rows), ceil(rest / columns)]: scores summed over blocks of the tensor seen as a matrix."""
    matrix = scores.reshape(scores.shape[0], -1)
    pad = (-matrix.shape[1] % columns, -matrix.shape[0] % rows)
    matrix = torch.nn.functional.pad(matrix, (0, pad[0], 0, pad[1]))
    return matrix.reshape(matrix.shape[0] // rows, rows, -1, columns).sum((1, 3))


def expand_blocks(mask: Tensor, rows: int, columns: int, shape: Sequence[int]) -> Tensor:
    """A mask of blocks as a mask of entries of ``shape``."""
    full = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    width = 1
    for size in shape[1:]:
        width *= size
    return full[: shape[0], :width].reshape(tuple(shape)).contiguous()


def compact(scores: Tensor, alive: Tensor) -> Tensor:
    """The entries that are alive as a dense tensor; whole slices are dead, as after removing units."""
    for dim in range(scores.ndim):
        stays = alive.movedim(dim, 0).flatten(1).any(1)
        scores, alive = scores.movedim(dim, 0)[stays].movedim(0, dim), alive.movedim(dim, 0)[stays].movedim(0, dim)
    return scores.contiguous()


def spread(mask: Tensor, alive: Tensor) -> Tensor:
    """The inverse of :func:`compact` for a mask: False where nothing is alive."""
    full = torch.zeros_like(alive)
    full[alive] = mask.reshape(-1)
    return full


def round_units(scores: Tensor, stays: Tensor, multiple: int, at_least: int) -> Tensor:
    """Sorted indices of the best units, their number rounded to the nearest ``multiple`` and not below ``at_least``.

    A group with fewer units than that stays whole.
    """
    keep = round(len(stays) / multiple) * multiple
    while keep < max(at_least, 1):
        keep += multiple
    keep = min(keep, len(scores))
    if keep == len(stays):
        return stays
    return torch.topk(scores, keep).indices.sort().values.cpu()


def units_that_stay(scores: Sequence[Tensor], sparsity: float | None, threshold: float | None) -> list[Tensor]:
    """Sorted indices of the units that stay, for one ranking over several groups; each keeps at least its best."""
    guarded = []
    for s in scores:
        s = s.clone()
        s[int(torch.argmax(s))] = torch.inf
        guarded.append(s)
    flat = torch.cat(guarded)
    if threshold is not None:
        cut = flat <= threshold
    else:
        k = min(round((sparsity or 0.0) * len(flat)), len(flat) - len(guarded))
        cut = lowest(flat, k)
    stays, start = [], 0
    for s in guarded:
        stays.append((~cut[start : start + len(s)]).nonzero().flatten().cpu())
        start += len(s)
    return stays
