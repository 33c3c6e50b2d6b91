"""Taking a trained module back: a new subject with its parent and history, after its shapes and zeros were checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..compress.build import build
from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.errors import VerificationError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.training import Entry
from ..models.device import place
from ..models.subject import Subject
from .hold import masks_of
from .start import carried

if TYPE_CHECKING:
    from .loop import Training

SUFFIX = {"fine-tuning": "finetuned", "distillation": "distilled", "recalibration": "recalibrated"}


def derive(
    parent: Subject,
    module: nn.Module,
    recipe: Recipe,
    *,
    what: str = "taken back",
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    epochs: int = 0,
    seconds: float = 0.0,
) -> Subject:
    """See :meth:`explorer.Subject.derive`."""
    plan = resolve(parent, recipe)
    check(module, {n: tuple(t.shape) for n, t in build(parent, plan.without_inputs()).state_dict().items()}, plan)
    first = next(parent.module.parameters(), torch.empty(0))
    own = copy.deepcopy(module)._apply(lambda tensor: place(tensor, first.device)).eval()
    entry = Entry(what, recipe, parent.name, parent.digest, dict(settings or {}), seed, epochs, seconds=seconds)
    return child(parent, own, carried(parent, recipe, plan, own), entry, name)


def check(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], plan: Plan) -> None:
    """Raises :class:`VerificationError` where a module has other tensors than ``shapes``, or weights where the plan has zeros."""
    if not isinstance(module, nn.Module):
        raise VerificationError(
            say("the trained module is {type}; accepted: a torch.nn.Module", type=type(module).__name__)
        )
    found = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name, shape in shapes.items():
        if name not in found:
            raise VerificationError(say("{layer}: the trained module has no such tensor", layer=name))
        if found[name] != shape:
            raise VerificationError(
                say(
                    "{layer}: shape {found}; accepted: {shape}, which the recipe leaves of it",
                    layer=name,
                    found=found[name],
                    shape=shape,
                )
            )
    extra = next((name for name in found if name not in shapes), None)
    if extra is not None:
        raise VerificationError(
            say(
                "{layer}: the recipe leaves no such tensor; accepted: the module of explorer.compress, trained",
                layer=extra,
            )
        )
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, mask in masks_of(parameters, plan).items():
        wrong = int(torch.count_nonzero(parameters[name].detach()[~mask.to(parameters[name].device)]))
        if wrong:
            raise VerificationError(
                say(
                    "{layer}: {wrong} weights that the recipe prunes are not zero; accepted: a loop within explorer.hold(module, plan)",
                    layer=name,
                    wrong=wrong,
                )
            )
    bad = next((name for name, one in parameters.items() if not bool(torch.isfinite(one.detach()).all())), None)
    if bad is not None:
        raise VerificationError(say("{layer}: its weights hold NaN or infinity", layer=bad))


def child(parent: Subject, module: nn.Module, recipe: Recipe, entry: Entry, name: str | None = None) -> Subject:
    """A new subject with its parent and history."""
    for one in module.modules():
        if isinstance(one, nn.RNNBase):
            one.flatten_parameters()
    base = parent.name
    while any(base.endswith(f"-{suffix}") for suffix in SUFFIX.values()):
        base = base.rpartition("-")[0]
    made = Subject(module, parent.task, name or f"{base}-{SUFFIX.get(entry.what, 'derived')}", card=parent.card)
    made.task = parent.task  # an agreement is one with the first original, not with itself
    made.parent, made.history, made.recipe = parent, (*parent.history, entry), recipe
    return made


def result(training: Training, name: str | None = None) -> Subject:
    """What a training has come to."""
    run = training.run
    module = run.take()
    settings: dict[str, Any] = run.settings.to_dict() | {
        "schedule": training.schedule.to_dict(),
        "objective": training.objective.to_dict(),
        **({} if training.augment is None else {"augment": training.augment}),
    }
    after: Any = run.best if run.best is not None else {}
    entry = Entry(
        training.objective.what, run.recipe, run.subject.name, run.subject.digest, settings, run.settings.seed,
        epochs=max((one.epoch for one in training.curve), default=0), steps=run.step, seconds=run.seconds, evaluations=run.scorer.passes,
        before=training.before, damaged=training.damaged, after=after, metric=next(iter(after), ""), curve=tuple(training.curve),
        notes=tuple(run.notes), complete=training.complete, device=str(run.device), energy=training.meter.joules,
        energy_source=training.meter.source,
    )  # fmt: skip
    return child(run.subject, module, carried(run.subject, run.recipe, run.plan, module), entry, name)
