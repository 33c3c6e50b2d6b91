"""The Recipe made concrete for one Subject: masks, kept units, gains, scales and zero points."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..models.norms import norms_of
from ..models.removal import alive
from .quantizers import Codes


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """What happens to one weight tensor, in this order; everything in the *original* shape.

    mask: bool, True where the weight stays (False also for entries of removed units). gain: float factors of soft
    scaling. shrink: threshold t of sign(w) max(|w| - t, 0). codes: fake quantization.
    """

    mask: Tensor | None = None
    gain: Tensor | None = None
    shrink: float | None = None
    codes: Codes | None = None

    @cached_property
    def digest(self) -> str:
        state = hashlib.blake2b(digest_size=12)
        if self.mask is not None:
            state.update(b"mask" + np.packbits(self.mask.cpu().numpy().reshape(-1)).tobytes())
        if self.gain is not None:
            state.update(b"gain" + self.gain.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        if self.shrink is not None:
            state.update(f"shrink{self.shrink!r}".encode())
        if self.codes is not None:
            c = self.codes
            state.update(f"codes{c.bits}{c.scheme}{c.axis}".encode() + c.scale.cpu().numpy().tobytes())
            state.update(c.zero_point.cpu().numpy().tobytes())
        return state.hexdigest()

    def before_quantization(self, weight: Tensor) -> Tensor:
        """Mask, scale or shrink a weight of the original shape."""
        if self.mask is not None:
            weight = weight * self.mask
        if self.gain is not None:
            weight = (weight * self.gain).to(weight.dtype)
        if self.shrink is not None:
            weight = torch.nn.functional.softshrink(weight, self.shrink)
        return weight

    def apply(self, weight: Tensor) -> Tensor:
        """The weight that the compressed model computes with (original shape; a new tensor)."""
        out = self.before_quantization(weight)
        if self.codes is not None:
            out = self.codes.fake_quantize(out)
        return out if out is not weight else weight.clone()


@dataclass(frozen=True, eq=False)
class Plan:
    """What a Recipe means for one Subject. Applying, caching and exporting consume this, never the Recipe.

    layers: {layer: LayerPlan} of the layers that change. kept: {group: indices of the units that stay}, of the groups
    that are cut. dropped: {tensor FQN: {dim: indices that go}}; a norm stands there by its module's FQN, with dim -1.
    """

    layers: Mapping[str, LayerPlan]
    kept: Mapping[str, Tensor]
    dropped: Mapping[str, Mapping[int, Tensor]] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    removed: tuple[str, ...] = ()

    @property
    def structural(self) -> bool:
        """Whether tensors become smaller or vanish."""
        return bool(self.kept or self.removed)

    @property
    def masks(self) -> dict[str, Tensor]:
        """{layer: bool Tensor of the original shape}, True where the weight stays; only pruned layers."""
        return {name: layer.mask for name, layer in self.layers.items() if layer.mask is not None}

    @cached_property
    def norms(self) -> dict[str, Tensor]:
        """{FQN of a norm: indices of removed units}: the masked run takes its statistics over the others. Modules that go whole
        stand there, too: it holds what they answer at zero."""
        return norms_of(self.dropped)

    def cut_fraction(self, name: str) -> float:
        """Of a layer's entries that remain, the fraction that a weight-prune rule cuts or attenuates."""
        mine = self.layers.get(name)
        if mine is None:
            return 0.0
        below = torch.zeros(0)
        if mine.gain is not None:
            below = mine.gain < 1
        elif mine.mask is not None:
            below = ~mine.mask
        if not below.numel():
            return 0.0
        alive_mask = alive(tuple(below.shape), self.dropped.get(name, {})).to(below.device)
        return float(below[alive_mask].float().mean()) if alive_mask.any() else 0.0

    @property
    def codes(self) -> dict[str, Codes]:
        """{layer: scale and zero point} of quantized layers."""
        return {name: layer.codes for name, layer in self.layers.items() if layer.codes is not None}

    @cached_property
    def state(self) -> Mapping[str, str]:
        """{FQN of a parameter, or of a module that runs differently: digest of how}; what is not there is the original.

        The evaluator replays from the first thing in which two plans differ, so whatever a plan changes stands here.
        """
        found = {name: layer.digest for name, layer in self.layers.items()}
        for name, gone in self.norms.items():
            found[name] = hashlib.blake2b(gone.cpu().numpy().tobytes(), digest_size=12).hexdigest()
        return found

    @cached_property
    def digest(self) -> str:
        """Content hash: two recipes that come to the same plan share every cached result."""
        state = hashlib.blake2b(digest_size=12)
        for name in sorted(self.layers):
            state.update(f"{name}={self.layers[name].digest};".encode())
        for name in sorted(self.kept):
            state.update(f"{name}:".encode() + self.kept[name].numpy().tobytes())
        for name in sorted(self.removed):
            state.update(f"-{name};".encode())
        return state.hexdigest()
