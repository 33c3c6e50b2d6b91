"""Weight quantizers, one file each; the registry discovers the folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.registry import Registry


@dataclass(frozen=True, eq=False)
class Codes:
    """How a tensor is rounded: x -> (clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale.

    scale float32 and zero_point int32: 0-d for per-tensor, [channels] for per-channel along ``axis``.
    """

    bits: int
    scheme: str
    scale: Tensor
    zero_point: Tensor
    low: int
    high: int
    axis: int | None

    def _along(self, values: Tensor, ndim: int) -> Tensor:
        if self.axis is None:
            return values
        shape = [1] * ndim
        shape[self.axis] = -1
        return values.view(shape)

    def fake_quantize(self, weight: Tensor) -> Tensor:
        """Round to the levels, staying in floating point; equals torch.fake_quantize_per_tensor/channel_affine."""
        scale = self._along(self.scale, weight.ndim)
        zero = self._along(self.zero_point, weight.ndim)
        wide = weight if weight.element_size() >= 4 else weight.float()  # half precision cannot hold x / scale
        codes = torch.round(wide * (1.0 / scale)).add_(zero).clamp_(self.low, self.high)
        return codes.sub_(zero).mul_(scale).to(weight.dtype)

    def levels(self, channel: int = 0) -> list[float]:
        """The representable values of one channel, ascending."""
        scale, zero = self.scale.reshape(-1)[channel].item(), self.zero_point.reshape(-1)[channel].item()
        return [(code - zero) * scale for code in range(self.low, self.high + 1)]

    @property
    def overhead(self) -> int:
        """Bytes of scales (fp32) and, for affine, zero points (one byte each)."""
        return self.scale.numel() * (4 + (self.scheme == "affine"))


class Quantizer(ABC):
    """Finds scale and zero point of a tensor. The docstring is shown on screen as help."""

    title: str

    @abstractmethod
    def fit(self, weight: Tensor, bits: int, scheme: str, axis: int | None) -> Codes:
        """Codes for ``weight`` (already pruned); axis None: one scale a tensor, else one a slice along it."""


registry: Registry[type[Quantizer]] = Registry("quantizer", __name__)


def quantizers() -> tuple[str, ...]:
    """Names of the registered quantizers."""
    return tuple(registry)
