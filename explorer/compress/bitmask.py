"""Masks of large layers at one bit an entry, and where they are cut without a copy of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..analysis.tally import Tally, kth
from ..analysis.words import inside_of, layer_tally
from ..core.errors import UnsupportedError
from ..core.message import say
from ..core.rules import Prune
from ..models.subject import Subject

TYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 1 << 20  # entries, a multiple of eight, that are compared at a time
LARGE = 1 << 24  # entries of a rule's layers from which on masks are packed


@dataclass(frozen=True, eq=False)
class BitMask:
    """True where a weight stays. bits: uint8, eight entries each, of a tensor of ``shape``; device: where the weight is."""

    bits: Tensor
    shape: tuple[int, ...]
    device: torch.device

    @classmethod
    def of(cls, mask: Tensor) -> BitMask:
        """A bool tensor, packed."""
        return cls(torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1))), tuple(mask.shape), mask.device)

    def nonzero(self, weight: Tensor) -> int:
        """Entries of a weight that stay and are not zero, without a copy of it."""
        return sum(int(torch.count_nonzero((part != 0).logical_and_(stays))) for part, stays in self._parts(weight))

    def masked(self, weight: Tensor) -> Iterator[Tensor]:
        """The weight with zeros where the mask is False, flat, some entries at a time."""
        return (part * stays + 0 for part, stays in self._parts(weight))

    def times(self, weight: Tensor) -> Tensor:
        """The weight with zeros where the mask is False, some entries at a time: a whole mask of bools would be another half of it."""
        bits = {2: torch.int16, 4: torch.int32}.get(weight.element_size())
        if bits is None or not weight.is_contiguous():
            return weight * self.unpacked()
        out = torch.empty_like(weight)
        for (part, stays), zeroed in zip(self._parts(weight), out.view(-1).split(BLOCK), strict=True):
            torch.mul(
                part.view(bits), stays.view(torch.uint8), out=zeroed.view(bits)
            )  # of integers: three times as fast
        return out

    def _parts(self, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for part, bits in zip(weight.reshape(-1).split(BLOCK), self.bits.split(BLOCK // 8), strict=True):
            yield part, _bools(bits, len(part)).to(part.device)

    def unpacked(self) -> Tensor:
        """The bool tensor."""
        return _bools(self.bits, torch.Size(self.shape).numel()).reshape(self.shape).to(self.device)


def _bools(bits: Tensor, n: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=n).view(np.bool_))


def large(subject: Subject, rule: Prune, names: Sequence[str]) -> bool:
    """Whether a rule by magnitude holds for so many entries that scores and masks of all of them at once would be a second model."""
    return (
        rule.criterion == "l1" and rule.granularity == "weight" and rule.mode == "hard"
        and sum(subject.weight(name).numel() for name in names) >= LARGE
        and all(subject.weight(name).dtype in TYPES for name in names)
    )  # fmt: skip


def packed_masks(subject: Subject, rule: Prune, names: Sequence[str]) -> Iterator[tuple[str, BitMask]]:
    """(layer, its mask) one after the other; memory for one layer beside the weights, which may be mapped.

    By a sparsity exactly k = round(s * n) entries go; of those that tie with the k-th smallest |w|, the first ones.
    Raises :class:`UnsupportedError` for weights with NaN or infinity.
    """
    if rule.threshold is not None:
        for name in names:
            _tally(subject, name)
            yield name, _above(subject.weight(name), rule.threshold)[0]
        return
    for group in [list(names)] if rule.scope == "global" else [[name] for name in names]:
        yield from _lowest_go(subject, group, rule.sparsity or 0.0)


def _lowest_go(subject: Subject, names: Sequence[str], sparsity: float) -> Iterator[tuple[str, BitMask]]:
    tallies = [_tally(subject, name) for name in names]
    owners = {id(one): name for one, name in zip(tallies, names, strict=True)}

    @cache
    def inside(name: str, key: int) -> np.ndarray:
        return inside_of(subject.weight(name), key)

    def look(one: Tally, key: int) -> np.ndarray:
        return inside(owners[id(one)], key)

    k = round(sparsity * sum(one.total for one in tallies))
    cut = kth(tallies, k, look) if k else -1.0
    ties = k - sum(
        one.below(np.nextafter(np.float32(cut), np.float32(-1)), look) for one in tallies
    )  # of them so many go
    for name in names:
        mask, ties = _above(subject.weight(name), cut, ties)
        yield name, mask


def _above(weight: Tensor, cut: float, ties: int | None = None) -> tuple[BitMask, int]:
    """(|w| > cut, how many ties are left): of the entries that equal it, the first ``ties`` go, and the others stay. None: all go."""
    cut = float(torch.tensor(cut, dtype=torch.float32))
    edge = torch.tensor(cut, dtype=weight.dtype, device=weight.device)
    if float(edge) > cut:  # the cut is no value of the weight's type: everything up to the one before it goes
        edge = torch.nextafter(edge, torch.full_like(edge, -torch.inf))
    tied = ties is not None and float(edge) == cut
    left, parts = ties or 0, []
    for sizes in (part.abs() for part in weight.reshape(-1).split(BLOCK)):
        mask = sizes > edge
        if tied:
            same = (sizes == edge).nonzero().flatten()
            mask[same[left:]] = True
            left -= min(left, len(same))
        parts.append(np.packbits(mask.cpu().numpy()))
    return BitMask(torch.from_numpy(np.concatenate(parts)), tuple(weight.shape), weight.device), left


def _tally(subject: Subject, name: str) -> Tally:
    found = layer_tally(subject, name)
    assert found is not None  # a floating weight
    if found.not_finite:
        raise UnsupportedError(say("{layer}: its weights hold NaN or infinity; nothing to rank", layer=name))
    return found
