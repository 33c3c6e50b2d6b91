"""What somebody wants done to a damaged model, as one value: enough to do it, to know it again, and to take it up after a restart."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import TrainingError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.training import Event
from ..models.samples import load, samples
from ..models.subject import Subject
from .augment import Augment, ShiftFlip
from .distillation import Distillation
from .loop import Training
from .objective import Objective
from .recalibrate import recalibrate
from .schedules import Schedule, registry
from .settings import Settings

PROCESS = secrets.token_hex(8)
KINDS = ("fine-tuning", "distillation", "recalibration")


class Work(Protocol):
    """What a job does: events until it is over, then a subject."""

    def events(self) -> Iterator[Event]: ...

    def subject(self, name: str | None = None) -> Subject: ...


@dataclass(frozen=True)
class Order:
    """Recover ``subject`` from ``recipe``. what: one of :data:`KINDS`. schedule: its name and settings, plain values; distil: those of
    a distillation with the original as its teacher; augment: of :class:`ShiftFlip`, none for no augmentation. device: None for the
    one that is picked."""

    what: str
    subject: Subject
    recipe: Recipe
    settings: Settings = field(default_factory=Settings)
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"name": "one-shot"})
    distil: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    augment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Equal for orders that end in the same model."""
        settings = self.settings.to_dict() if self.what != "recalibration" else {}
        told = [
            self.what, self.subject.digest, _data(self.subject), self.recipe.digest,
            {name: value for name, value in settings.items() if name not in ("log_every", "checkpoint_seconds")},
            dict(self.schedule) if self.what != "recalibration" else {}, dict(self.distil), self.device,
            *([dict(self.augment)] if self.augment else []),
        ]  # fmt: skip
        return hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()

    def work(
        self,
        file: Path,
        cancel: Callable[[], bool],
        progress: Callable[[int, int], object],
        user: object,
        doing: Callable[[str, int, int], object] | None = None,
    ) -> Work:
        """The work itself; what can be refused is refused here. file: its checkpoint. progress, doing: of what takes steps, and of what does not."""
        if self.what == "recalibration":
            return Recalibration(self, cancel, progress)
        return Training(
            self.subject, self.recipe, self.settings, cancel=cancel, checkpoint=file, user=user, doing=doing, **self.how()
        )

    def how(self) -> dict[str, Any]:
        """The remaining arguments of a :class:`Training`."""
        return {"schedule": self._schedule(), "objective": self._objective(), "device": self.device, "augment": self._augment()}

    def _schedule(self) -> Schedule:
        chosen = registry[str(self.schedule["name"])]
        known = {one.name for one in fields(chosen)}  # type: ignore[arg-type]
        return chosen(**{name: value for name, value in self.schedule.items() if name in known})

    def _objective(self) -> Objective:
        return Distillation(self.subject, **self.distil) if self.distil else Objective()

    def _augment(self) -> Augment | None:
        return ShiftFlip(**self.augment) if self.augment else None

    def plain(self) -> Order:
        """The same without a teacher: what a distillation is compared with."""
        return replace(self, what="fine-tuning", distil={})

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the subject by its name and content."""
        return {
            "what": self.what, "subject": self.subject.name, "digest": self.subject.digest, "recipe": self.recipe.to_json(),
            "settings": self.settings.to_dict(), "schedule": dict(self.schedule), "distil": dict(self.distil), "device": self.device,
            "augment": dict(self.augment),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, told: Mapping[str, Any], subject: Subject) -> Order:
        """The order that ``told`` describes. Raises :class:`TrainingError` for another subject."""
        if subject.digest != told["digest"]:
            raise TrainingError(
                say(
                    "{name}: the weights are not those that the job began with; accepted: the model with digest {digest}",
                    name=subject.name,
                    digest=str(told["digest"])[:12],
                )
            )
        return cls(
            told["what"], subject, Recipe.from_json(told["recipe"]), Settings(**told["settings"]), told["schedule"], told["distil"],
            told["device"], told.get("augment", {}),
        )  # fmt: skip


def _data(subject: Subject) -> str:
    """What a model learns from: a sample's data by the sample's name, anybody's own as what it is in this process alone."""
    first = subject
    while first.parent is not None:
        first = first.parent
    if first.name in samples() and load(first.name).task is subject.task:
        return first.name
    return f"{PROCESS} {id(subject.task)}"  # the job holds the task, so that no other can take its place


class Recalibration:
    """The seconds-long repair, behind the same face as a training."""

    def __init__(self, order: Order, cancel: Callable[[], bool], progress: Callable[[int, int], object]) -> None:
        self.order, self.cancel, self.progress = order, cancel, progress
        self._made: Subject | None = None

    def events(self) -> Iterator[Event]:
        """Its notes, when it is done."""
        order = self.order
        self._made = recalibrate(
            order.subject, order.recipe, device=order.device, progress=self.progress, cancel=self.cancel
        )
        yield from self._made.history[-1].notes

    def subject(self, name: str | None = None) -> Subject:
        """The recalibrated subject."""
        assert self._made is not None
        if name is not None:
            self._made.name = name
        return self._made
