"""How a plan quantized each tensor, for the packer."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ...compress.plan import Plan
from ...models.subject import Subject
from ..steps import pruned, steps_of
from .slices import Slices
from .values import Hint


def hints(subject: Subject, plan: Plan) -> dict[str, Hint]:
    """{layer: how it was quantized}; only hints: a coding that does not restore every bit is not taken."""
    found = {}
    for name, codes in plan.codes.items():
        weight = pruned(plan.layers[name], subject.weight(name))
        if not weight.numel():
            continue  # its layer went whole
        slices = Slices(tuple(weight.shape), codes.slices.axis, codes.slices.size, codes.slices.parts)
        steps = steps_of(codes, weight)
        found[name] = Hint(slices, _flat(steps.code - steps.zero), _flat(steps.parameters)) if steps else Hint(slices)
    return found


def _flat(values: Tensor) -> np.ndarray:
    return values.float().cpu().reshape(-1).numpy()
