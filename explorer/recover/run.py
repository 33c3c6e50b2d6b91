"""A training's state: the module, what is held, where it stands. Schedules and objectives see this."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.recipe import Recipe
from ..core.report import Figure
from ..core.training import Note
from ..models.device import place
from ..models.removal import remove, select
from ..models.sites import attach, detach
from ..models.subject import Subject
from ..models.task import to_device
from .hold import Hold
from .optimizers import optimizer_of
from .score import Scorer
from .settings import Settings
from .start import start


class Run:
    """subject, recipe: what training started from, untouched. module: what is trained, on ``device``. hold: its masks and roundings.
    optimizer. epoch, step: from 1 while they last; steps, per_epoch: in all. memory: a schedule's own values, kept in checkpoints; scratch: what
    it can find again, until units go. cancel: asked by what takes long. best: figures of the best epoch so far."""

    def __init__(
        self, subject: Subject, recipe: Recipe, begin: Recipe, settings: Settings, device: torch.device
    ) -> None:
        self.subject, self.recipe, self.settings, self.device = subject, recipe, settings, device
        self.started = start(subject, begin)
        self.plan = self.started.plan
        self.module = self.started.module
        if not any(one.requires_grad for one in self.module.parameters()):
            self.module.requires_grad_(True)
        self.module._apply(lambda tensor: place(tensor, device))
        self.frozen_norms = settings.norms == "frozen" or self.started.folded
        self.removed: list[
            dict[str, dict[int, Tensor]]
        ] = []  # units that went on the way, in order: a checkpoint has to know the shapes
        self.original = sum(layer.numel for layer in subject.layers)
        self.names = [layer.name for layer in subject.layers]
        self.memory: dict[str, Any] = {}
        self.scratch: dict[str, Any] = {}
        self.cancel: Callable[[], bool] | None = None
        # of the same shapes, so its units are the same
        self._alike: Subject | None = None if self.plan.structural else subject
        self.notes: list[Note] = []
        self.epoch = self.step = self.steps = self.per_epoch = 0
        self.seconds = 0.0
        self.best: dict[str, Figure] | None = None
        self.best_state: dict[str, Tensor] | None = None
        self.scorer = Scorer(subject, device)
        self._attached: Any = attach(self.module, {name: one.to(device) for name, one in self.started.inputs.items()})
        self.optimizer = optimizer_of(self.module, settings)
        self.hold = self._hold(self.started.masks)

    def _hold(self, masks: Mapping[str, Tensor]) -> Hold:
        """Masks and roundings of the module as it is now."""
        there = dict(self.module.named_parameters(remove_duplicate=False))
        held = Hold(self.module, masks, {name: one for name, one in self.started.roundings.items() if name in there})
        if self.settings.regrow:
            held.masks = {}
        return held

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """{layer: its weight as it is trained}, of layers that are still there."""
        there = dict(self.module.named_parameters(remove_duplicate=False))
        return {name: there[name] for name in self.names if name in there}

    @property
    def masks(self) -> dict[str, Tensor]:
        """{layer: bool, False where it is held at zero}."""
        return dict(self.hold.masks)

    @property
    def sparsity(self) -> float:
        """1 - non-zero weights / weights of the subject's layers; removed ones count as pruned."""
        left = sum(int(torch.count_nonzero(one.detach())) for one in self.weights.values())
        return 1 - left / self.original if self.original else 0.0

    def forward(self, inputs: Any) -> Any:
        """The outputs of the module on collated inputs."""
        self.attach()
        return self.subject.task.forward(self.module, to_device(inputs, self.device))

    def set_masks(self, masks: Mapping[str, Tensor], *, hold: bool = True) -> None:
        """Zero what is False in ``masks`` {layer: bool of its shape now}; hold: and keep it so. What was held before and is not named is free."""
        self.hold.set(masks)
        if not hold or self.settings.regrow:
            self.hold.masks = {}

    def subject_now(self) -> Subject:
        """The model as it is now, not rounded, for what asks for a subject; it shares the weights, so use it at once."""
        self.hold.restore()
        detach(self.module, self._attached)
        now = Subject(self.module, self.subject.task, self.subject.name)
        now.task = self.subject.task  # of agreement: with the first original
        known = self._alike.__dict__ if self._alike is not None else {}
        now.__dict__.update({name: known[name] for name in ("_plain_layers", "structure", "depth") if name in known})
        self._attached, self._alike = [], now
        return now

    @contextmanager
    def bare(self) -> Iterator[Subject]:
        """Within the block: the model as it is now, as a subject."""
        try:
            yield self.subject_now()
        finally:
            self.attach()

    def resolve(self, recipe: Recipe) -> Plan:
        """What a recipe means for the weights as they are now; of targets, those that are still there."""
        with self.bare() as now:
            return resolve(now, recipe)

    def drop(self, dropped: Mapping[str, Mapping[int, Tensor]]) -> None:
        """Remove units for good; what is held of the rest stays held."""
        self.hold.restore()
        masks = {name: select(mask, dict(dropped.get(name, {}))) for name, mask in self.hold.masks.items()}
        detach(self.module, self._attached)
        self._attached = []
        remove(self.module, {name: dict(dims) for name, dims in dropped.items()})
        self.attach()
        self.optimizer = optimizer_of(self.module, self.settings)
        self.best = self.best_state = None
        there = dict(self.module.named_parameters(remove_duplicate=False))
        self.hold = self._hold({name: mask for name, mask in masks.items() if name in there})
        self.hold.refit(all=True)
        self._alike, self.scratch = None, {}

    def attach(self) -> None:
        """Put the rounding of activations back, where something took it off."""
        if self._attached or not self.started.inputs:
            return
        there = dict(self.module.named_parameters(remove_duplicate=False))
        self._attached = attach(
            self.module, {name: one.to(self.device) for name, one in self.started.inputs.items() if name in there}
        )

    def figures(self) -> dict[str, Figure]:
        """The module as it is now, rounded, on validation."""
        self.attach()
        self.hold.refit(all=True)
        self.hold.round()
        return self.scorer(self.module)

    def note(self, text: str, **values: Any) -> None:
        """Put a decision on record."""
        self.notes.append(Note(self.epoch, self.step, text, values))

    def state(self) -> dict[str, Tensor]:
        """Copies of all tensors as they are now."""
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def rewind(self, state: Mapping[str, Tensor], *, optimizer: bool = True) -> None:
        """Back to the tensors of ``state``; zeros that are held stay. optimizer: which starts afresh, too."""
        self.hold.restore()
        self.module.load_state_dict(dict(state))
        self.hold.set(self.hold.masks)
        if optimizer:
            self.optimizer = optimizer_of(self.module, self.settings)

    def take(self) -> nn.Module:
        """The module of the best state, plain, in eval mode, on the subject's device; training is over."""
        self.hold.refit(all=True)
        self.hold.round()
        if self.best_state is not None:
            self.module.load_state_dict(self.best_state)
        detach(self.module, self._attached)
        self._attached = []
        self.hold.zero()
        first = next(self.subject.module.parameters(), torch.empty(0))
        module = self.module._apply(lambda tensor: place(tensor, first.device)).eval()
        for one in module.parameters():
            one.grad = None
        return module
