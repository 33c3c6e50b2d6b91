"""How a plan quantized each tensor, for the packer: slices and grid in the shapes that are left after removal."""

from __future__ import annotations

import numpy as np

from ...compress.plan import Plan
from ...compress.quantizers import Codes
from ...models.subject import Subject
from .slices import Slices
from .values import Grid


def hints(subject: Subject, plan: Plan) -> dict[str, tuple[Slices, Grid | None]]:
    """{layer: (slices, grid)}; only hints: a coding that does not restore every bit is not taken."""
    shapes = {layer.name: layer.shape for layer in subject.layers}
    found: dict[str, tuple[Slices, Grid | None]] = {}
    for name, codes in plan.codes.items():
        dropped = {dim: set(index.tolist()) for dim, index in plan.dropped.get(name, {}).items() if dim >= 0}
        kept = {d: tuple(i for i in range(shapes[name][d]) if i not in gone) for d, gone in dropped.items()}
        found[name] = _of(codes, Slices(shapes[name], codes.axis, None, kept))
    return found


def _of(codes: Codes, slices: Slices) -> tuple[Slices, Grid]:
    scale = codes.scale.reshape(-1).float().cpu().numpy()
    zero = codes.zero_point.reshape(-1).int().cpu().numpy()
    axis = slices.axis
    if axis in slices.kept:
        assert axis is not None
        index = np.array(slices.kept[axis], np.int64)
        scale, zero = scale[index], zero[index]
    return Slices(slices.left, axis), Grid(codes.bits, codes.low, scale, zero)
