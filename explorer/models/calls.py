"""What a task hands to its module: exporters need the module's own arguments, not the task's samples."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import UnsupportedError, failed
from ..core.message import say
from .subject import Subject
from .task import to_device
from .trial import difference


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module: ``module(*args, **kwargs)``."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, module: nn.Module) -> Any:
        with torch.no_grad():
            return module(*self.args, **self.kwargs)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Call:
        """The same call with its tensors moved, floating ones cast."""
        return Call(to_device(self.args, device, dtype), to_device(self.kwargs, device, dtype))

    def tensors(self) -> dict[str, Tensor]:
        """{input name: tensor}: the first positional one is "input", the next "input_2"; keywords keep theirs."""
        named = {("input" if i == 0 else f"input_{i + 1}"): a for i, a in enumerate(self.args)} | self.kwargs
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def calls(subject: Subject, module: nn.Module, sizes: tuple[int, ...] = (2,)) -> list[Call]:
    """How the task calls ``module`` on the first samples of the train (else validation) split, one call a batch size.

    Raises :class:`UnsupportedError` where the task's forward calls it more or less than once,
    :class:`EvaluationError` where it fails.
    """
    seen: list[Call] = []
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(Call(tuple(args), dict(kwargs))), with_kwargs=True
    )
    try:
        for size in sizes:
            before = len(seen)
            with torch.no_grad():
                subject.task.forward(module, to_device(subject.task.example(size), "cpu"))
            if len(seen) != before + 1:
                raise UnsupportedError(
                    say(
                        "{subject}: the task's forward calls the module {times} times; accepted: once, so that a file can stand "
                        "for the module",
                        subject=subject.name,
                        times=len(seen) - before,
                    )
                )
    except UnsupportedError:
        raise
    except Exception as error:
        raise failed(say("{subject}: forward failed on {size} samples", subject=subject.name, size=size), error) from error
    finally:
        hook.remove()
    return seen


def gap(reference: nn.Module, other: nn.Module, made: list[Call], tolerance: float) -> float:
    """Largest relative difference of two torch modules over some calls; doubt is settled in float64."""
    worst = max(difference(call(reference), call(other)) for call in made)
    if worst > tolerance:
        first, second = copy.deepcopy(reference).double(), copy.deepcopy(other).double()
        exact = [call.to("cpu", torch.float64) for call in made]
        worst = max(difference(call(first), call(second)) for call in exact)
    return worst


Progress = Callable[[int, int], None] | None
Cancel = Callable[[], bool] | None
