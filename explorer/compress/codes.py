"""How a tensor is rounded: what every quantizer finds, behind one protocol."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ..core.kept import kept_property
from .slices import Slices

SHOWN = 256  # levels that can be listed


@dataclass(frozen=True, eq=False)
class Codes(ABC):
    """Rounding of a tensor of the shape that remains after removal; every zero stays exactly zero.

    bits: of one code. scheme: symmetric, affine, power-of-two, ternary, binary, codebook or float. slices: which
    entries share parameters.
    """

    bits: int
    scheme: str
    slices: Slices = field(default_factory=Slices)

    @property
    def codes_zero(self) -> bool:
        """Whether zero is one of the codes; else zeros are stored as pruned, by their places."""
        return True

    @abstractmethod
    def integers(self, weight: Tensor) -> Tensor:
        """The code of each entry, int32, in the shape of ``weight``; 0 for zeros that have no code."""

    @abstractmethod
    def dequantize(self, integers: Tensor) -> Tensor:
        """float32 values of codes. Zeros without a code come out as code 0: multiply by the mask."""

    @abstractmethod
    def fake_quantize(self, weight: Tensor) -> Tensor:
        """Round to the levels, staying in floating point of the same dtype; a new tensor."""

    def passes(self, weight: Tensor) -> Tensor | None:
        """Where the straight-through estimator lets the gradient of the rounded weight pass: bool of its shape, False where it is
        clipped; None for everywhere. Source: Bengio et al. 2013, arXiv 1308.3432, section 3.4; clipped as torch.fake_quantize is."""
        return None

    @abstractmethod
    def levels(self, index: int = 0) -> list[float] | None:
        """The values that slice ``index`` can take, ascending; None where there are more than 256."""

    @property
    @abstractmethod
    def overhead(self) -> int:
        """Bytes of scales, zero points and codebooks."""

    @kept_property
    def digest(self) -> str:
        """Content hash."""
        state = hashlib.blake2b(type(self).__name__.encode(), digest_size=12)
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Tensor):
                state.update(one.name.encode() + value.cpu().contiguous().numpy().tobytes())
            else:
                state.update(f"{one.name}={value!r};".encode())
        return state.hexdigest()


@dataclass(frozen=True, eq=False)
class Uniform(Codes):
    """x -> (clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale.

    scale float32 and zero_point int32, both of the shape ``slices.parameters``. low, high: the range of the codes.
    """

    scale: Tensor = field(default_factory=lambda: torch.ones(()))
    zero_point: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int32))
    low: int = 0
    high: int = 255

    def fake_quantize(self, weight: Tensor) -> Tensor:
        """Equals torch.fake_quantize_per_tensor_affine and torch.fake_quantize_per_channel_affine."""
        scale = self.slices.spread(self.scale, weight)
        zero = self.slices.spread(self.zero_point, weight)
        wide = weight if weight.element_size() >= 4 else weight.float()  # half precision cannot hold x / scale
        codes = torch.round(wide * (1.0 / scale)).add_(zero).clamp_(self.low, self.high)
        return codes.sub_(zero).mul_(scale).to(weight.dtype)

    def _unclipped(self, weight: Tensor) -> Tensor:
        scale = self.slices.spread(self.scale, weight)
        zero = self.slices.spread(self.zero_point, weight)
        wide = weight if weight.element_size() >= 4 else weight.float()
        return torch.round(wide * (1.0 / scale)).add_(zero)

    def integers(self, weight: Tensor) -> Tensor:
        return self._unclipped(weight).clamp_(self.low, self.high).int()

    def passes(self, weight: Tensor) -> Tensor:
        codes = self._unclipped(weight)
        return (codes >= self.low) & (codes <= self.high)

    def dequantize(self, integers: Tensor) -> Tensor:
        return (integers - self.slices.spread(self.zero_point, integers)) * self.slices.spread(self.scale, integers)

    def levels(self, index: int = 0) -> list[float]:
        scale, zero = self.scale.reshape(-1)[index].item(), self.zero_point.reshape(-1)[index].item()
        return [(code - zero) * scale for code in range(self.low, self.high + 1)]

    @property
    def overhead(self) -> int:
        """Scales as fp32; for affine, zero points of one byte each."""
        return self.scale.numel() * (4 + (self.scheme == "affine"))


@dataclass(frozen=True, eq=False)
class Table(Codes):
    """x -> centers[code], code = how many edges lie below x (an x on an edge takes the lower code).

    centers float32 [slices, K], ascending; edges float32 [slices, K - 1]. first: the integer code of centers[:, 0].
    stored: bytes of the parameters of one slice (codebook, scale or exponent). sparse: zero is not a center and is kept
    out, as pruned.
    """

    centers: Tensor = field(default_factory=lambda: torch.zeros(1, 1))
    edges: Tensor = field(default_factory=lambda: torch.zeros(1, 0))
    first: int = 0
    stored: int = 4
    sparse: bool = False

    @property
    def codes_zero(self) -> bool:
        return not self.sparse

    def _index(self, weight: Tensor) -> Tensor:
        """[slices, n]: index of the center of each entry."""
        rows = self.slices.rows(weight.float()).contiguous()
        return torch.searchsorted(self.edges, rows)

    def fake_quantize(self, weight: Tensor) -> Tensor:
        found = self.slices.back(self.centers.gather(1, self._index(weight)), weight.shape)
        return torch.where(weight == 0, 0, found).to(weight.dtype)

    def integers(self, weight: Tensor) -> Tensor:
        found = self.slices.back(self._index(weight) + self.first, weight.shape)
        return torch.where(weight == 0, 0, found).int()

    def dequantize(self, integers: Tensor) -> Tensor:
        rows = (self.slices.rows(integers).long() - self.first).clamp(0, self.centers.shape[1] - 1)
        return self.slices.back(self.centers.gather(1, rows), integers.shape)

    def levels(self, index: int = 0) -> list[float]:
        return sorted({*self.centers[index].tolist(), *([0.0] if self.sparse else [])})

    @property
    def overhead(self) -> int:
        return self.slices.count * self.stored


@dataclass(frozen=True, eq=False)
class Float(Codes):
    """x -> cast(clamp(x / scale, -largest, largest)) * scale, cast rounding to the nearest value of ``dtype``, ties to even.

    scale float32 of the shape ``slices.parameters``; None: the format itself, without a scale.
    """

    dtype: torch.dtype = torch.float16
    scale: Tensor | None = None

    def _cast(self, weight: Tensor) -> Tensor:
        largest = torch.finfo(self.dtype).max
        wide = weight if weight.element_size() > 4 else weight.float()
        if self.scale is not None:
            wide = wide / self.slices.spread(self.scale, weight)
        return wide.clamp(-largest, largest).to(self.dtype)

    def fake_quantize(self, weight: Tensor) -> Tensor:
        found = self._cast(weight).float()
        if self.scale is not None:
            found = found * self.slices.spread(self.scale, weight)
        return found.to(weight.dtype)

    def passes(self, weight: Tensor) -> Tensor:
        wide = weight.float() if self.scale is None else weight.float() / self.slices.spread(self.scale, weight)
        return wide.abs() <= torch.finfo(self.dtype).max

    def integers(self, weight: Tensor) -> Tensor:
        """The format's bit patterns, as unsigned numbers."""
        found = self._cast(weight).contiguous()
        whole = found.view(torch.uint8) if self.bits == 8 else found.view(torch.int16)
        return whole.int() & (2**self.bits - 1)

    def dequantize(self, integers: Tensor) -> Tensor:
        whole = integers.to(torch.uint8) if self.bits == 8 else integers.to(torch.int16)
        found = whole.view(self.dtype).float()
        return found if self.scale is None else found * self.slices.spread(self.scale, integers)

    def levels(self, index: int = 0) -> list[float] | None:
        if 2**self.bits > SHOWN:
            return None
        found = torch.arange(SHOWN).to(torch.uint8).view(self.dtype).float()
        scale = 1.0 if self.scale is None else self.scale.reshape(-1)[index].item()
        return sorted({value * scale + 0.0 for value in found[found.isfinite()].tolist()})

    @property
    def overhead(self) -> int:
        return 0 if self.scale is None else 4 * self.scale.numel()
