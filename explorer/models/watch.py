"""What the modules within a model answer in a run, a few entries of each answer: to compare two runs, module by module.

The end of a deep model says little about its beginning: each layer may shrink a difference, two hundred make it vanish. A
difference is seen right behind its cause, and relative to what is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

ENTRIES = 1024  # of an answer that are kept
Seen = Mapping[str, list[tuple[tuple[int, ...], Tensor]]]  # {module: (shape, entries) of each of its calls}


def first_tensor(answer: Any) -> Tensor | None:
    """The first tensor of nested answers. Others, such as attention's weights, averaged over heads, may be read by nobody."""
    if isinstance(answer, Tensor):
        return answer
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, (tuple, list)) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def _note(seen: dict[str, Any], name: str, _: nn.Module, __: Any, answer: Any) -> None:
    found = first_tensor(answer)
    if found is None or not found.is_floating_point() or found.layout != torch.strided or found.is_nested:
        return
    flat = found.detach().reshape(-1)
    step = max(1, flat.numel() // ENTRIES) | 1  # odd, so that it does not walk down one column of an even width
    seen[name].append((tuple(found.shape), flat[::step].clone()))  # which a later layer may write to in place


@contextmanager
def watched(module: nn.Module) -> Iterator[Seen]:
    """Within the block, the answers of all modules below ``module`` are noted, behind the hooks that are there already."""
    seen: dict[str, Any] = defaultdict(list)
    hooks = [child.register_forward_hook(partial(_note, seen, name)) for name, child in module.named_modules() if name]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def agree(one: Seen, other: Seen, tolerance: float) -> bool:
    """Whether answers of the same shape differ by at most ``tolerance`` of the largest; those of other shapes say nothing."""
    for name in one.keys() & other.keys():
        if len(one[name]) != len(other[name]):
            continue
        for (shape, a), (other_shape, b) in zip(one[name], other[name], strict=True):
            if shape == other_shape and a.numel() and not bool((a - b).abs().max() <= tolerance * a.abs().max()):
                return False
    return True


def silent(seen: Seen) -> set[str]:
    """Modules that answer nothing but zeros, behind which a difference could not be seen."""
    return {name for name, calls in seen.items() if not any(bool(entries.any()) for _, entries in calls)}
