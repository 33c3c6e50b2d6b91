"""How a plan quantized each tensor, for the packer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...compress.codes import Codes, Float, Uniform
from ...compress.plan import Plan
from ...models.subject import Subject
from .slices import Slices
from .values import Hint


def hints(subject: Subject, plan: Plan) -> dict[str, Hint]:
    """{layer: how it was quantized}; only hints: a coding that does not restore every bit is not taken."""
    found = {}
    for name, codes in plan.codes.items():
        mine = plan.layers[name]
        weight = mine.remaining(mine.before_quantization(subject.weight(name))).cpu()
        found[name] = _hint(codes, weight)
    return found


@torch.no_grad()
def _hint(codes: Codes, weight: Tensor) -> Hint:
    """Steps and scales of a pruned weight in the shape that remains."""
    slices = Slices(tuple(weight.shape), codes.slices.axis, codes.slices.size, codes.slices.parts)
    integers = codes.integers(weight)
    if isinstance(codes, Uniform):
        steps, scale = integers - codes.slices.spread(codes.zero_point, integers), codes.scale
    elif isinstance(codes, Float) and codes.scale is not None:
        whole = integers.to(torch.uint8) if codes.bits == 8 else integers.to(torch.int16)
        steps, scale = whole.view(codes.dtype), codes.scale
    else:  # powers of two, signs: the largest value of a slice is a scale of all of them
        values = codes.fake_quantize(weight).float()
        most = codes.slices.rows(values).abs().amax(1)
        scale = torch.where(most > 0, most, torch.ones_like(most)).reshape(codes.slices.parameters)
        steps = values / codes.slices.spread(scale, values)
        if len(torch.unique(steps)) > 2 * 2**codes.bits:
            return Hint(slices)
    return Hint(slices, _flat(steps), _flat(scale))


def _flat(values: Tensor) -> np.ndarray:
    return values.float().cpu().reshape(-1).numpy()
