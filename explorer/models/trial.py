"""Trial removals: does taking units out equal masking them, on real inputs?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.errors import cause
from ..core.message import Message, say
from .jointly import Tell, reasons
from .memory import beyond
from .norms import norms_of, over_survivors
from .removal import alive, gone, remaining_shape, remove
from .replica import share
from .structure import Cut
from .task import copied, to_device
from .watch import agree, silent, watched

if TYPE_CHECKING:
    from .subject import Subject

Run = Callable[[nn.Module], Any]
TOLERANCE = 1e-5
EXACT = 1e-9  # in float64, where an exact removal differs by rounding alone


def tensors(outputs: Any) -> list[Tensor]:
    """All tensors within nested outputs: tuples, lists, dicts, dataclasses."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    elif is_dataclass(outputs) and not isinstance(outputs, type):
        outputs = [getattr(outputs, one.name) for one in fields(outputs)]
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


def finite(outputs: Any) -> bool:
    """Whether all values within nested outputs are numbers."""
    return all(bool(t.isfinite().all()) for t in tensors(outputs))


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


class Trials:
    """Trial removals from one subject, on a float64 copy on the CPU that they all share; none of them writes to it.

    runs: what is compared, each a function of a float64 module; by default the task's forward on real inputs.
    """

    def __init__(self, subject: Subject, runs: Sequence[Run] = ()) -> None:
        self.subject, self._runs = subject, runs
        self._silent: set[str] | None = None

    @cached_property
    def module(self) -> nn.Module:
        return self.subject.copy().cpu().double()

    @cached_property
    def runs(self) -> Sequence[Run]:
        if self._runs:
            return self._runs
        inputs, forward = to_device(self.subject.example(2), "cpu", torch.float64), self.subject.task.forward
        return [lambda module: forward(module, copied(inputs))]  # which it may write to

    def alone(self, cut: Cut) -> Message | None:
        """Remove every other unit, then the others; None if that equals masking them, else the reason."""
        if cut.group.units < 2:
            return say("it has a single unit, and at least one stays")
        halves = torch.arange(0, cut.group.units, 2), torch.arange(1, cut.group.units, 2)
        return self._alone(cut, halves[0]) or self._alone(cut, halves[1])

    def reasons(self, cuts: Sequence[Cut], tell: Tell = None) -> list[Message | None]:
        """As :meth:`alone` for each of several groups, most of them tried together.

        Why that is enough: each group is in several rounds, with random units of a random number, so that what is taken out of two groups
        which in truth hang together does not fit; and without any other one in at least one of them (:mod:`.jointly`), so that no other
        group hides that it is wrong. All modules are compared, not the end alone, relative to what they answer; and where half of
        the units of all groups leave nothing alive to compare, the round is doubted. What a round doubts is tried as ever.
        """
        many = [cut for cut in cuts if cut.group.units > 1]

        def together(some: Sequence[int], place: int) -> bool:
            return self._together([(many[i], _drawn(many[i].group.units, i, place)) for i in some])

        kinds = [(cut.group.kind, *map(self._maker, cut.group.producers)) for cut in many]
        found = dict(zip(map(id, many), reasons(kinds, together, lambda i: self.alone(many[i]), tell), strict=True))
        return [found[id(cut)] if id(cut) in found else self.alone(cut) for cut in cuts]

    def _maker(self, layer: str) -> type:
        return type(self.module.get_submodule(layer.rpartition(".")[0]))

    def _masked(self, pairs: Sequence[tuple[Cut, Tensor]]) -> nn.Module:
        """Masked where units are read, alone: what they compute stays alive, so that any other way it takes shows."""
        masked = share(self.module)
        readers = [
            (replace(cut, slices=tuple(s for s in cut.slices if s.role == "consumer")), kept) for cut, kept in pairs
        ]
        mask_units(masked, gone(readers))
        return masked

    @torch.no_grad()
    def _alone(self, cut: Cut, kept: Tensor) -> Message | None:
        dropped = gone([(cut, kept)])
        running: list[str] = []
        try:
            removed = share(self.module)
            remove(removed, dropped)
            _running(removed, running)
            with Double():
                found = [run(removed) for run in self.runs]  # first: where shapes do not fit, it ends soon
                del removed
                masked = self._masked([(cut, kept)])
                with over_survivors(masked, norms_of(dropped)):
                    gap = max(difference(run(masked), one) for run, one in zip(self.runs, found, strict=True))
        except Exception as error:
            why = cause(error, 120)
            if running:
                return say(
                    "the forward pass fails in {module} once units are removed ({why})", module=running[-1], why=why
                )
            return say("the forward pass fails once units are removed ({why})", why=why)
        if gap > EXACT and not finite(found):
            return say("its outputs on real inputs hold NaN or infinity, so nothing can be compared")
        if gap > EXACT:
            return say("removing its units is not the same as masking them (difference {gap:.1e})", gap=gap)
        return None

    @torch.no_grad()
    def _together(self, pairs: Sequence[tuple[Cut, Tensor]]) -> bool:
        """Whether removing units of several groups at once gives what masking them gives, in every module, and takes their weights."""
        dropped = gone(pairs)
        try:
            if self._silent is None:
                with watched(original := share(self.module)) as seen, Double():
                    for run in self.runs:
                        run(original)
                self._silent = silent(seen)
            masked = self._masked(pairs)
            with over_survivors(masked, norms_of(dropped)), watched(masked) as seen, Double():
                references = [run(masked) for run in self.runs]
            del masked  # of the copies of a large model, no more than two at a time
            removed = share(self.module)
            remove(removed, dropped)
            with watched(removed) as other, Double():
                gap = max(difference(one, run(removed)) for one, run in zip(references, self.runs, strict=True))
        except Exception as error:  # whose reason the group's own trial will say
            cause(error)
            return False
        left = sum(
            math.prod(remaining_shape(tuple(p.shape), dropped.get(n, {}))) for n, p in self.module.named_parameters()
        )
        fell = sum(p.numel() for p in removed.parameters()) == left
        return fell and gap <= EXACT and silent(seen) <= self._silent and agree(seen, other, EXACT)


def _drawn(units: int, group: int, place: int) -> Tensor:
    """The units that a group keeps in its round of a place: a random part, in every second place the units that went before."""
    generator = torch.Generator().manual_seed(1_000_003 * group + place // 2)
    order = torch.randperm(units, generator=generator)
    least = max(1, units // 4)
    size = int(torch.randint(least, units - least + 1, (), generator=generator))
    return (order[size:] if place % 2 else order[:size]).sort().values


def why_not(subject: Subject, cut: Cut, runs: Sequence[Run] = ()) -> Message | None:
    """:meth:`Trials.alone`, once."""
    return Trials(subject, runs).alone(cut)


def _running(module: nn.Module, names: list[str]) -> None:
    """Keep the names of the modules that are running, the innermost last; where a forward fails, they stay."""
    for name, child in module.named_modules():
        if name:
            child.register_forward_pre_hook(lambda _, __, name=name: names.append(name))  # type: ignore[misc]
            child.register_forward_hook(lambda *_: names.pop() and None)
