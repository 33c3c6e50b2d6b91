"""One step of the optimizer: the loss of a batch, its gradients, and what is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import isfinite

import torch
from torch import Tensor, nn

from ..core.errors import ExplorerError, TrainingError
from ..core.message import say
from ..models.device import exact
from ..models.task import to_device
from .augment import Augment
from .objective import Objective, refuse, scalar
from .optimizers import clip_of
from .run import Run
from .schedules import Schedule

BATCH_NORMS = nn.modules.batchnorm._BatchNorm


class Stepper:
    """Takes steps. micro: samples that fit the device at once; it becomes smaller where they do not. scaler: of gradients in float16."""

    def __init__(self, run: Run, schedule: Schedule, objective: Objective, augment: Augment | None = None) -> None:
        self.run, self.schedule, self.objective, self.augment = run, schedule, objective, augment
        self.micro = run.settings.batch + 1  # the last batch may have taken in one that was left over
        self.clip = clip_of(run.module, run.settings)
        self.half: torch.dtype | None = None
        if run.settings.precision == "mixed":
            self.half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        self.scaler = torch.amp.GradScaler(enabled=self.half == torch.float16 and not any(one.dtype == self.half for one in run.module.parameters()))  # type: ignore[attr-defined]

    def __call__(self, indices: list[int], rate: float) -> float:
        """One step of the optimizer; in parts where the device has no memory for the batch. Returns the loss."""
        run = self.run
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        with seeded(mixed(run.settings.seed, run.step, 2), run.device), exact(run.device):
            while True:
                try:
                    loss = self._gradients(indices)
                    break
                except torch.OutOfMemoryError as error:
                    run.optimizer.zero_grad()
                    if self.micro <= 2:
                        raise TrainingError(
                            say(
                                "{subject}: two samples do not fit the memory of {device}; accepted: a smaller model or another device",
                                subject=run.subject.name,
                                device=str(run.device),
                            )
                        ) from error
                self.micro = min(self.micro, len(indices)) // 2  # not above, where the error holds its frames' tensors
                run.note(
                    say(
                        "the batch does not fit the memory of {device}: {n} samples at once",
                        device=str(run.device),
                        n=self.micro,
                    ),
                    n=self.micro,
                )
                if run.device.type == "cuda":
                    torch.cuda.empty_cache()
            value = float(loss)
            if not isfinite(value):
                raise self._not_finite(value, indices, rate)
            self.scaler.unscale_(run.optimizer)
            self.schedule.gradients(run)
            if self.clip:
                nn.utils.clip_grad_norm_([one for one in run.module.parameters() if one.grad is not None], self.clip)
            run.hold.before_step()
            self.scaler.step(run.optimizer)
            self.scaler.update()
            run.hold.after_step()
            run.optimizer.zero_grad()
            self.schedule.after_step(run)
            run.hold.refit()
            run.hold.check()
        return value

    def _not_finite(self, value: float, indices: list[int], rate: float) -> TrainingError:
        """No learning rate is to blame for the first step's loss."""
        run = self.run
        if run.step == 1:
            return TrainingError(
                say(
                    "{subject}: the loss is {value} in the first step, on train samples {first}...; accepted: inputs and targets "
                    "that give a finite loss",
                    subject=run.subject.name, value=value, first=indices[:3],
                )
            )  # fmt: skip
        return TrainingError(
            say(
                "{subject}: the loss is {value} in epoch {epoch}, step {step}, at a learning rate of {lr:.2g}; accepted: a smaller "
                "learning rate (lr), or a clipped gradient (clip)",
                subject=run.subject.name, value=value, epoch=run.epoch, step=run.step, lr=rate,
            )
        )  # fmt: skip

    def _gradients(self, indices: list[int]) -> Tensor:
        """Backward over a batch; returns its mean loss, the schedule's penalty included."""
        run, total = self.run, torch.zeros(())
        run.optimizer.zero_grad()
        run.module.train()
        if run.frozen_norms:
            for one in run.module.modules():
                if isinstance(one, BATCH_NORMS):
                    one.eval()
        run.hold.round()
        for start in range(0, len(indices), self.micro):
            part = indices[start : start + self.micro]
            inputs, targets = run.subject.task.batch("train", part)
            inputs, targets = to_device(inputs, run.device), to_device(targets, run.device)
            try:
                if self.augment is not None:
                    inputs = self.augment(inputs)
                half = torch.autocast(run.device.type, dtype=self.half) if self.half else nullcontext()
                with half:
                    loss = scalar(self.objective(run, inputs, targets, part), run.subject.name)
                penalty = self.schedule.penalty(run)
                loss = loss if penalty is None else loss + penalty.to(loss)
                loss = loss * (len(part) / len(indices))
                self.scaler.scale(loss).backward()
            except (ExplorerError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise refuse(error, run.subject.name, part) from error
            total = total.to(loss.device) + loss.detach()
        return total


def mixed(seed: int, index: int, stream: int) -> int:
    """A seed for one epoch or step: whatever was drawn before, so that a resumed training draws the same."""
    return (seed * 1_000_003 + index * 7919 + stream * 104_729_000_011) % (2**63)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block torch draws from ``seed``; the caller's random state comes back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"):
        torch.manual_seed(seed)
        yield
