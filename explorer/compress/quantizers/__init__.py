"""Weight quantizers, one file each; the registry discovers the folder."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ...core.registry import Registry
from ..codes import Codes
from ..slices import Slices


class Quantizer(ABC):
    """Finds how a tensor is rounded. The docstring is shown on screen as help.

    bits, schemes, granularities: what it accepts. searches: finding the codes takes many passes over the weight.
    """

    title: str
    bits: tuple[int, ...] = tuple(range(2, 9))
    schemes: tuple[str, ...] = ("symmetric", "affine")
    granularities: tuple[str, ...] = ("tensor", "channel", "group", "gate")
    searches: bool = False

    @abstractmethod
    def fit(self, weight: Tensor, bits: int, scheme: str, slices: Slices) -> Codes:
        """Codes for ``weight`` (already pruned, removed units gone, finite). Zeros are pruned entries: they take no part."""


registry: Registry[type[Quantizer]] = Registry("quantizer", __name__)


def quantizers() -> tuple[str, ...]:
    """Names of the registered quantizers."""
    return tuple(registry)
