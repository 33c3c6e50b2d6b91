"""A training on disk: enough to go on as if it had never stopped. Holds tensors and plain values, nothing that could run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import TrainingError
from ..core.message import say
from ..core.report import Figure
from ..core.training import Epoch, Note
from .objective import Objective

if TYPE_CHECKING:
    from .loop import Training
    from .run import Run

VERSION = 1


@dataclass(frozen=True)
class Stand:
    """How far a training was. epoch: the one that was going on or the last one that ended, of epochs; steps: all, 0 if unknown."""

    epoch: int
    epochs: int
    step: int
    steps: int
    curve: tuple[Epoch, ...]
    notes: tuple[Note, ...]


def key_of(run: Run, schedule: Mapping[str, Any], objective: Objective, augment: Any = None) -> str:
    """Content hash of what decides how a training ends; where it computes and how often it reports does not."""
    settings = {
        name: value for name, value in run.settings.to_dict().items() if name not in ("log_every", "checkpoint_seconds")
    }
    told = {
        "version": VERSION, "subject": run.subject.digest, "recipe": run.recipe.digest, "settings": settings, "schedule": schedule,
        "objective": [objective.what, objective.to_dict()], "train": len(run.subject.task.dataset("train")),
    } | ({} if augment is None else {"augment": augment})  # fmt: skip
    return hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def save(file: Path, training: Training, loss: float, first: int) -> None:
    """Write the state after a step, all or nothing. loss: summed so far in this epoch; first: its next batch, 0 for a new epoch."""
    run = training.run
    run.hold.restore()
    training.meter.stop()
    held = {
        "version": VERSION, "key": training.key(), "epoch": run.epoch + (first == 0), "step": run.step, "steps": run.steps, "first": first,
        "loss": loss,
        "seconds": run.seconds, "energy": training.meter.joules, "micro": training.stepper.micro, "passes": run.scorer.passes, "removed": run.removed,
        "module": run.module.state_dict(), "optimizer": run.optimizer.state_dict(), "scaler": training.stepper.scaler.state_dict(),
        "masks": run.hold.masks, "roundings": {name: one.state() for name, one in run.hold.roundings.items()},
        "memory": run.memory, "best_state": run.best_state, "best": _plain(run.best),
        "before": _plain(training.before), "damaged": _plain(training.damaged),
        "curve": [_epoch(one) for one in training.curve], "notes": [asdict(one) | {"text": str(one.text)} for one in run.notes],
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with beside.open("wb") as out:
        torch.save(held, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(beside, file)


def load(file: Path, training: Training) -> tuple[float, int]:
    """Put ``training`` into the state of a checkpoint; returns (loss so far in the epoch, its next batch).

    Raises :class:`TrainingError` for a file that is none, or that of another training.
    """
    run = training.run
    try:
        held = torch.load(file, map_location=run.device, weights_only=True)
        known = held["version"] == VERSION and held["key"] == training.key()
    except Exception as error:
        raise TrainingError(
            say(
                "{file}: no checkpoint of a training ({cause}); delete it to begin anew",
                file=str(file),
                cause=type(error).__name__,
            )
        ) from error
    if not known:
        raise TrainingError(
            say(
                "{file}: the checkpoint of another subject, recipe or settings; accepted: another file, or delete it to begin anew",
                file=str(file),
            )
        )
    for dropped in held["removed"]:
        run.drop({name: {dim: index.cpu() for dim, index in dims.items()} for name, dims in dropped.items()})
        run.removed.append(dropped)
    run.hold.restore()
    run.module.load_state_dict(held["module"])
    run.optimizer.load_state_dict(held["optimizer"])
    training.stepper.scaler.load_state_dict(held["scaler"])
    run.hold.masks = dict(held["masks"])
    for name, state in held["roundings"].items():
        run.hold.roundings[name].load(state, run.hold.parameters[name].detach(), run.hold.masks.get(name))
    run.epoch, run.step, run.seconds, training.stepper.micro = (
        held["epoch"],
        held["step"],
        held["seconds"],
        held["micro"],
    )
    run.memory, run.best_state, run.best = held["memory"], held["best_state"], _figures(held["best"])
    run.scorer.passes = held["passes"]
    training.meter.earlier = held.get("energy")
    run.notes = [Note(**one) for one in held["notes"]]
    training.before, training.damaged = _figures(held["before"]) or {}, _figures(held["damaged"]) or {}
    training.curve = _curve(held["curve"])
    return held["loss"], held["first"]


def stand(file: Path) -> Stand | None:
    """How far a training was; None for a file that is none, or not there. Tensors are mapped and never read."""
    try:
        held = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        curve = _curve(held["curve"])
        notes = tuple(Note(**one) for one in held["notes"])
        epochs = curve[-1].epochs
        epoch = min(max(held["epoch"] - (held["first"] == 0), 0), epochs)
        return Stand(epoch, epochs, held["step"], held.get("steps", 0), tuple(curve), notes)
    except Exception:  # whoever goes on with it is told what is wrong
        return None


def _curve(plain: Any) -> list[Epoch]:
    return [Epoch(**{**one, "figures": _figures(one["figures"])}) for one in plain]


def _plain(figures: Mapping[str, Figure] | None) -> Any:
    return None if figures is None else {name: asdict(one) for name, one in figures.items()}


def _figures(plain: Any) -> dict[str, Figure] | None:
    return None if plain is None else {name: Figure(**one) for name, one in plain.items()}


def _epoch(one: Epoch) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in fields(one)} | {"figures": _plain(one.figures)}
