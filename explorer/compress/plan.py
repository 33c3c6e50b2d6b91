"""The Recipe made concrete for one Subject: masks, kept units, gains, scales and zero points."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..core.kept import kept_property
from ..models.norms import norms_of
from ..models.quantized import FakeQuantize
from ..models.removal import select
from .bitmask import BitMask
from .codes import Codes, Uniform
from .lazy import Lazy
from .masks import masked


def spread(remaining: Tensor, shape: torch.Size, dropped: Mapping[int, Tensor]) -> Tensor:
    """The inverse of removal: a tensor of ``shape`` with zeros where units went."""
    for dim, index in dropped.items():
        stays = torch.ones(shape[dim], dtype=torch.bool)
        stays[index.cpu()] = False
        sizes = list(remaining.shape)
        sizes[dim] = shape[dim]
        kept = stays.nonzero().flatten().to(remaining.device)
        remaining = remaining.new_zeros(sizes).index_copy(dim, kept, remaining)
    return remaining


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """What happens to one weight tensor, in this order; everything in the *original* shape.

    mask: bool, True where the weight stays (False also for entries of removed units); of large layers packed to bits. gain: float factors of soft
    scaling. shrink: threshold t of sign(w) max(|w| - t, 0). rescale: factors, broadcasting to the shape, of BatchNorm folding
    and equalization. codes: fake quantization, of the tensor as it remains.
    dropped: {dim: indices of removed units}. inputs: fake quantization of the activation that this weight multiplies.
    """

    mask: Tensor | BitMask | None = None
    gain: Tensor | None = None
    shrink: float | None = None
    rescale: Tensor | None = None
    codes: Codes | None = None
    dropped: Mapping[int, Tensor] = field(default_factory=dict)
    inputs: Uniform | None = None

    @kept_property
    def digest(self) -> str:
        """Content hash of what happens to the weight (not to its activation)."""
        state = hashlib.blake2b(digest_size=12)
        if self.mask is not None:
            state.update(b"mask" + (self.mask if isinstance(self.mask, BitMask) else BitMask.of(self.mask)).bits.numpy().tobytes())
        if self.gain is not None:
            state.update(b"gain" + self.gain.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        if self.shrink is not None:
            state.update(f"shrink{self.shrink!r}".encode())
        if self.rescale is not None:
            state.update(b"rescale" + self.rescale.float().cpu().contiguous().numpy().tobytes())
        if self.codes is not None:
            state.update(f"codes{self.codes.digest}".encode())
        return state.hexdigest()

    @property
    def stays(self) -> Tensor | None:
        """The mask as a bool tensor."""
        return self.mask.unpacked() if isinstance(self.mask, BitMask) else self.mask

    @property
    def only_bits(self) -> BitMask | None:
        """A packed mask, where that is all that happens to the weight."""
        return self.mask if isinstance(self.mask, BitMask) and not self.moves_values else None

    @property
    def only_mask(self) -> Tensor | None:
        """A mask, where that is all that happens to the weight."""
        return self.mask if isinstance(self.mask, Tensor) and not self.moves_values else None

    @property
    def changes_weight(self) -> bool:
        """Whether the weight is another one at all."""
        return self.mask is not None or self.moves_values

    @property
    def moves_values(self) -> bool:
        """Whether a weight may get values that it did not have, and that are not zero."""
        return not (self.gain is None and self.shrink is None and self.rescale is None and self.codes is None)

    def before_quantization(self, weight: Tensor) -> Tensor:
        """Mask, scale or shrink a weight of the original shape, and rescale what is left."""
        if isinstance(self.mask, BitMask):
            weight = self.mask.times(weight)
        elif self.mask is not None:
            weight = masked(weight, self.mask)
        if self.gain is not None:
            weight = (weight * self.gain).to(weight.dtype)
        if self.shrink is not None:
            weight = torch.nn.functional.softshrink(weight, self.shrink)
        if self.rescale is not None:
            weight = (weight * self.rescale).to(weight.dtype)
        return weight

    def apply(self, weight: Tensor) -> Tensor:
        """The weight that the compressed model computes with (original shape; a new tensor)."""
        out = self.before_quantization(weight)
        if self.codes is not None:
            out = spread(self.codes.fake_quantize(self.remaining(out)), out.shape, self.dropped)
        return out if out is not weight else weight.clone()

    def remaining(self, weight: Tensor) -> Tensor:
        """A tensor of the original shape without the entries of removed units: what ``codes`` are about."""
        return select(weight, dict(self.dropped)) if self.dropped else weight


@dataclass(frozen=True, eq=False)
class Plan:
    """What a Recipe means for one Subject. Applying, caching and exporting consume this, never the Recipe.

    layers: {layer: LayerPlan} of the layers that change. kept: {group: indices of the units that stay}, of the groups
    that are cut. dropped: {tensor FQN: {dim: indices that go}}; a norm stands there by its module's FQN, with dim -1.
    tensors: {FQN: value, in the original shape} of biases and norms that folding, equalization or bias correction change.
    """

    layers: Mapping[str, LayerPlan]
    kept: Mapping[str, Tensor]
    dropped: Mapping[str, Mapping[int, Tensor]] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    removed: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def structural(self) -> bool:
        """Whether tensors become smaller or vanish."""
        return bool(self.kept or self.removed)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """{layer: bool Tensor of the original shape}, True where the weight stays; only pruned layers. Made when they are
        looked up, and the caller's own: a plan is kept, so nobody may write to its masks."""
        pruned = {name: layer.mask for name, layer in self.layers.items() if layer.mask is not None}
        return Lazy(pruned, lambda name: pruned[name].unpacked() if isinstance(pruned[name], BitMask) else pruned[name].clone())  # type: ignore[union-attr, return-value]

    @kept_property
    def norms(self) -> dict[str, Tensor]:
        """{FQN of a norm: indices of removed units}: the masked run takes its statistics over the others. Modules that go whole
        stand there, too: it holds what they answer at zero."""
        return norms_of(self.dropped)

    def cut_fraction(self, name: str) -> float:
        """Of a layer's entries that remain, the fraction that a weight-prune rule cuts or attenuates."""
        mine = self.layers.get(name)
        if mine is None:
            return 0.0
        stays = mine.gain >= 1 if mine.gain is not None else mine.stays
        if stays is None:
            return 0.0
        if name in self.dropped:
            stays = select(stays, dict(self.dropped[name]))
        n = stays.numel()  # divided in float64, so that 0.9 of a layer is shown as 0.9
        return (n - int(torch.count_nonzero(stays))) / n if n else 0.0

    @property
    def codes(self) -> dict[str, Codes]:
        """{layer: how its weight is rounded}, in the shapes after removal, of quantized layers."""
        return {name: layer.codes for name, layer in self.layers.items() if layer.codes is not None}

    @kept_property
    def inputs(self) -> dict[str, Uniform]:
        """{layer: how the activation that its weight multiplies is rounded}, with calibrated scale and zero point."""
        return {name: layer.inputs for name, layer in self.layers.items() if layer.inputs is not None}

    @property
    def inputs_overhead(self) -> int:
        """Bytes of the scales and zero points of activations."""
        return sum(one.overhead for one in self.inputs.values())

    def roundings(self) -> dict[str, nn.Module]:
        """{layer: a new module that rounds the activation that its weight multiplies}."""
        made: dict[str, nn.Module] = {}
        for name, codes in self.inputs.items():
            one = made[name] = FakeQuantize(codes.low, codes.high)
            one.scale, one.zero_point = codes.scale.clone(), codes.zero_point.clone()
        return made

    def without_inputs(self) -> Plan:
        """The same weights; activations as they are."""
        if not self.inputs:
            return self
        bare = {name: replace(one, inputs=None) for name, one in self.layers.items()}
        return replace(self, layers={name: one for name, one in bare.items() if one.changes_weight})

    @kept_property
    def state(self) -> Mapping[str, str]:
        """{FQN of a parameter, or of a module that runs differently: digest of how}; what is not there is the original.

        The evaluator replays from the first thing in which two plans differ, so whatever a plan changes stands here.
        """
        found = {name: layer.digest + (layer.inputs.digest if layer.inputs else "") for name, layer in self.layers.items()}
        for name, value in {**self.norms, **self.tensors}.items():
            content = value.detach().cpu().double().numpy().tobytes()
            found[name] = found.get(name, "") + hashlib.blake2b(content, digest_size=12).hexdigest()
        return found

    @kept_property
    def digest(self) -> str:
        """Content hash: two recipes that come to the same plan share every cached result."""
        state = hashlib.blake2b(digest_size=12)
        for name in sorted(self.layers):
            inputs = self.layers[name].inputs
            state.update(f"{name}={self.layers[name].digest}{inputs.digest if inputs else ''};".encode())
        for name in sorted(self.tensors):
            state.update(f"{name}=".encode() + self.tensors[name].float().cpu().contiguous().numpy().tobytes())
        for name in sorted(self.kept):
            state.update(f"{name}:".encode() + self.kept[name].numpy().tobytes())
        for name in sorted(self.removed):
            state.update(f"-{name};".encode())
        return state.hexdigest()
