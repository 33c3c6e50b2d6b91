"""Agreement: no labels needed, the original model's own outputs are the reference."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import EvaluationError, failed
from ..core.message import say
from .device import exact
from .replica import share as copy_of
from .task import Task, to_device
from .trial import tensors
from .unwritten import Unwritten, WritesError

LOWER = ("kl", "difference")
CHUNK = 128


class Unlabelled:
    """A data set of inputs as one of (inputs, nothing)."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.inputs[index], 0


def unlabelled(inputs: Any) -> Any:
    """Inputs as a split, or None; what is no data set is left for the task to refuse."""
    return Unlabelled(inputs) if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__") else inputs


class Answered:
    """(inputs, the original's outputs) of a split; the outputs are computed once, when the first is asked for."""

    def __init__(self, task: Task, split: str, module: nn.Module) -> None:
        self._task, self._split, self._module = task, split, module
        self._outputs: Tensor | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._task.splits[self._split])

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self._task.splits[self._split][index][0], self.outputs[index]

    @property
    def outputs(self) -> Tensor:
        """[N, ...] on the CPU."""
        with self._lock:
            if self._outputs is None:
                self._outputs = self._compute()
        return self._outputs

    @torch.no_grad()
    def _compute(self) -> Tensor:
        module = copy_of(self._module)
        first = next(module.parameters(), torch.empty(0))
        parts = []
        for start in range(0, len(self), CHUNK):
            inputs, _ = self._task.batch(self._split, range(start, min(start + CHUNK, len(self))))
            try:
                with exact(first.device), nullcontext() if start else Unwritten(module):
                    parts.append(main(self._task.forward(module, to_device(inputs, first.device))).cpu())
            except (EvaluationError, WritesError):
                raise
            except Exception as error:
                raise failed(say("the original model fails on {split} samples {start}...", split=self._split, start=start), error) from error
        return torch.cat(parts)


def answered(task: Task, module: nn.Module) -> Task:
    """The task with the outputs of ``module`` as targets."""
    plain = next(
        (data._task for data in task.splits.values() if isinstance(data, Answered)), task
    )  # bound to another one before
    splits = {name: Answered(plain, name, module) for name in plain.splits}
    return Task(
        splits=splits, score=task.score, loss=task.loss, forward=task.forward, collate=task.collate, classes=task.classes, lower_is_better=LOWER,
        display=task.display, decode=task.decode, encode=task.encode, labels=task.labels, kind=task.kind,
    )  # fmt: skip


def main(outputs: Any) -> Tensor:
    """The first floating tensor of the outputs, [N, ...]."""
    found = [tensor for tensor in tensors(outputs) if tensor.is_floating_point() and tensor.ndim]
    if not found:
        raise EvaluationError(say("the module returned no floating tensor; accepted: outputs [N, ...]"))
    return found[0].detach()


def score(outputs: Any, targets: Any) -> dict[str, Tensor]:
    """One value a sample: {"agreement", "kl", "cosine"}, or {"difference"} for single numbers. Positions at which the original
    says -inf alone (padding, as a task's forward marks it) do not count."""
    now, was = main(outputs).float(), targets.to(main(outputs).device).float()
    if now.shape != was.shape:
        raise EvaluationError(
            say("outputs of shape {now}; accepted: {was}, as the original's", now=tuple(now.shape), was=tuple(was.shape))
        )
    n = len(now)
    if now.ndim == 1 or now.shape[-1] == 1:
        return {"difference": (now - was).reshape(n, -1).square().mean(1).sqrt()}
    counted = (was > float("-inf")).any(-1).float().reshape(n, -1)
    positions = counted.sum(1).clamp(min=1)
    same = ((now.argmax(-1) == was.argmax(-1)).float().reshape(n, -1) * counted).sum(1) / positions
    before, after = was.log_softmax(-1), now.log_softmax(-1)
    share = before.exp()
    gap = torch.where(share > 0, share * (before - after), 0.0)  # logits of -inf are ruled out on both sides
    kl = (gap.sum(-1).clamp(min=0).reshape(n, -1) * counted).sum(1) / positions
    both = torch.isfinite(now) & torch.isfinite(was)
    now, was = (torch.where(both, one, 0.0).reshape(n, -1) for one in (now, was))
    cosine = F.cosine_similarity(now, was, dim=1)
    return {"agreement": same, "kl": kl, "cosine": cosine}
