"""A trial removal: does taking units out equal masking them, on real inputs?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.errors import cause
from ..core.message import Message, say
from .memory import beyond
from .norms import norms_of, over_survivors
from .removal import alive, gone, remove
from .replica import share
from .structure import Cut
from .task import to_device

if TYPE_CHECKING:
    from .subject import Subject

Run = Callable[[nn.Module], Any]
TOLERANCE = 1e-5
EXACT = 1e-9  # in float64, where an exact removal differs by rounding alone


def tensors(outputs: Any) -> list[Tensor]:
    """All tensors within nested outputs."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return [t for one in outputs for t in tensors(one)] if isinstance(outputs, (tuple, list)) else []


def difference(reference: Any, other: Any) -> float:
    """max|a - b| / max(1, max|a|) over all tensors; inf where shapes differ or a value is not finite in one only."""
    pairs = list(zip(tensors(reference), tensors(other), strict=False))
    if not pairs or len(tensors(reference)) != len(tensors(other)):
        return float("inf")
    worst = 0.0
    for a, b in pairs:
        if a.shape != b.shape:
            return float("inf")
        if not a.numel():
            continue
        a, b = a.cpu().double(), b.cpu().double()
        gap = (a - b).abs().max().item() / max(1.0, a.abs().max().item())
        worst = max(worst, gap if gap == gap else float("inf"))
    return worst


class Double(TorchFunctionMode):
    """Within it float32 tensors that a forward makes (``torch.zeros(n, 6)``, ``.float()``) are float64, as the module's own are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        return value.double() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def mask_units(module: nn.Module, dropped: dict[str, dict[int, Tensor]]) -> None:
    """Zero, in a copy's weight tensors, what ``dropped`` would remove (biases and norms stay)."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, dims in dropped.items():
        if name in parameters and parameters[name].ndim >= 2:
            keep = alive(tuple(parameters[name].shape), dims).to(parameters[name].device)
            parameters[name].data = parameters[name].data * keep


def too_large(subject: Subject) -> Message | None:
    """Why no removal can be tried on a model of this size; None where it can."""
    found = None if subject.task.kind == "weights" else beyond(16 * sum(p.numel() for p in subject.module.parameters()))
    if found is None:
        return None
    return say(
        "trying a removal takes two copies in float64, {needed:.1f} GB, more than a third of this machine's {memory:.1f} GB; weights can be pruned and quantized",
        **found,
    )


def why_not(subject: Subject, cut: Cut, runs: Sequence[Run] = ()) -> Message | None:
    """Remove every other unit from a float64 copy, then the others; None if that equals masking them, else the reason.

    runs: what is compared, each a function of a float64 module on the CPU; by default the task's forward on real inputs.
    """
    if cut.group.units < 2:
        return say("it has a single unit, and at least one stays")
    if not runs:
        inputs = to_device(subject.example(2), "cpu", torch.float64)
        runs = [lambda module: subject.task.forward(module, inputs)]
    return _try(subject, cut, torch.arange(0, cut.group.units, 2), runs) or _try(
        subject, cut, torch.arange(1, cut.group.units, 2), runs
    )


def _running(module: nn.Module, names: list[str]) -> None:
    """Keep the names of the modules that are running, the innermost last; where a forward fails, they stay."""
    for name, child in module.named_modules():
        if name:
            child.register_forward_pre_hook(lambda _, __, name=name: names.append(name))  # type: ignore[misc]
            child.register_forward_hook(lambda *_: names.pop() and None)


@torch.no_grad()
def _try(subject: Subject, cut: Cut, kept: Tensor, runs: Sequence[Run]) -> Message | None:
    dropped = gone([(cut, kept)])
    # Masked where units are read, alone: what they compute stays alive, so that any other way it takes shows.
    readers = replace(cut, slices=tuple(piece for piece in cut.slices if piece.role == "consumer"))
    masked = subject.copy().cpu().double()
    removed = share(masked)
    running: list[str] = []
    try:
        mask_units(masked, gone([(readers, kept)]))
        remove(removed, dropped)
        _running(removed, running)
        with Double():
            with over_survivors(masked, norms_of(dropped)):
                references = [run(masked) for run in runs]
            gap = max(difference(one, run(removed)) for one, run in zip(references, runs, strict=True))
    except Exception as error:
        why = cause(error, 120)
        if running:
            return say("the forward pass fails in {module} once units are removed ({why})", module=running[-1], why=why)
        return say("the forward pass fails once units are removed ({why})", why=why)
    if gap > EXACT:
        return say("removing its units is not the same as masking them (difference {gap:.1e})", gap=gap)
    return None
