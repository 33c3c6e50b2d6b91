"""How a model is trained: frozen, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from ..core.checks import shown
from ..core.errors import SettingsError, near
from ..core.message import say
from .checks import between, count

OPTIMIZERS = {"adamw": 1e-3, "adam": 1e-3, "sgd": 1e-2, "rmsprop": 1e-3}  # and their default learning rates
LR_SCHEDULES = ("cosine", "linear", "constant", "one-cycle")
PRECISIONS = ("full", "mixed")
NORMS = ("train", "frozen")


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    epochs: passes over the train split, of which ``samples`` (None: all) are seen, the same in every epoch. batch: samples a step. optimizer: adamw, adam, sgd, rmsprop;
    lr: its learning rate at the top, None for 1e-3 (sgd: 1e-2). momentum: of sgd and rmsprop. weight_decay: of tensors of two or more
    dimensions. lr_schedule: over all steps, "cosine" or "linear" to zero, "constant", or "one-cycle" (up for 30 %, then cosine);
    warmup: share of the steps over which the rate rises linearly. clip: largest norm of the gradient, None for 1.0 in models with
    recurrent layers and none in others; 0: never. precision: "mixed" computes in bfloat16 (float16 where there is none) on a GPU. patience: epochs
    without a better validation score after which it stops; None: never. regrow: masks are not held, and pruned weights grow back.
    norms: "frozen" keeps running statistics as they are. seed: of the order of samples, dropout, and augmentation through torch. log_every: steps
    between two events. checkpoint_seconds: between two checkpoints within an epoch.
    """

    epochs: int = 3
    batch: int = 128
    optimizer: str = "adamw"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_schedule: str = "cosine"
    warmup: float = 0.0
    clip: float | None = None
    precision: str = "full"
    patience: int | None = None
    regrow: bool = False
    norms: str = "train"
    samples: int | None = None
    seed: int = 0
    log_every: int = 10
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch", 1), ("log_every", 1), ("seed", 0)):
            count(name, getattr(self, name), least)
        for name in ("patience", "samples"):
            if getattr(self, name) is not None:
                count(name, getattr(self, name))
        for name, low, high in (
            ("lr", 0.0, 1e3),
            ("clip", 0.0, math.inf),
            ("weight_decay", 0.0, 1e3),
            ("momentum", 0.0, 1.0),
            ("warmup", 0.0, 1.0),
            ("checkpoint_seconds", 0.0, math.inf),
        ):
            if getattr(self, name) is not None or name not in ("lr", "clip"):
                between(name, getattr(self, name), low, high)
        choices = (
            ("optimizer", tuple(OPTIMIZERS)),
            ("lr_schedule", LR_SCHEDULES),
            ("precision", PRECISIONS),
            ("norms", NORMS),
        )
        for name, accepted in choices:
            if getattr(self, name) not in accepted:
                value = getattr(self, name)
                raise SettingsError(
                    say("{name}={value}; {hint}", name=name, value=shown(value), hint=near(str(value), accepted))
                )
        if type(self.regrow) is not bool:
            raise SettingsError(say("regrow={value}; accepted: True or False", value=shown(self.regrow)))

    @property
    def rate(self) -> float:
        """The learning rate at the top."""
        return OPTIMIZERS[self.optimizer] if self.lr is None else self.lr

    def factor(self, step: int, steps: int) -> float:
        """The share of the top rate at ``step`` (from 0) of ``steps``."""
        at = step / max(steps, 1)
        if self.lr_schedule == "one-cycle":
            return max(at / 0.3, 0.04) if at < 0.3 else 0.5 * (1 + math.cos(math.pi * (at - 0.3) / 0.7))
        if at < self.warmup:
            return (step + 1) / max(self.warmup * steps, 1)
        if self.lr_schedule == "constant":
            return 1.0
        at = (at - self.warmup) / max(1 - self.warmup, 1e-9)
        return 1 - at if self.lr_schedule == "linear" else 0.5 * (1 + math.cos(math.pi * at))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def but(self, **changes: Any) -> Settings:
        """The same settings but for ``changes``. Raises :class:`SettingsError` for a name that is none."""
        known = [one.name for one in fields(self)]
        for name in changes:
            if name not in known:
                raise SettingsError(say("no setting {name!r}; {hint}", name=name, hint=near(name, known)))
        return replace(self, **changes)
