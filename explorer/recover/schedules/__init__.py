"""What changes while a model is trained, one file each; the registry discovers the folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ...core.checks import shown
from ...core.errors import SettingsError, near
from ...core.message import say
from ...core.recipe import Recipe
from ...core.registry import Registry

if TYPE_CHECKING:
    from ..run import Run


class Schedule:
    """Decides what is pruned when. The docstring is shown on screen as help.

    A frozen dataclass: its fields are its settings, plain values. It keeps nothing of its own between calls: what it has to remember (plain
    values and tensors) it puts into ``run.memory``, which is part of a checkpoint. title: its short name. labels: {setting, or a
    value of one: its name on screen}.
    """

    title: ClassVar[str]
    labels: ClassVar[Mapping[str, str]] = {}

    def start(self, recipe: Recipe) -> Recipe:
        """The recipe that training begins with; the whole recipe by default. The schedule cuts the rest later."""
        return recipe

    def begin(self, run: Run) -> None:
        """Before training (not after a resume). Raises what says that this schedule cannot do it."""

    def before_epoch(self, run: Run) -> None:
        """Before the first step of an epoch."""

    def clock(self, run: Run) -> tuple[int, int]:
        """(step, from 0; of how many): where the learning-rate schedule stands."""
        return max(run.step - 1, 0), run.steps

    def penalty(self, run: Run) -> Tensor | None:
        """A scalar to add to the loss of every batch, or None."""
        return None

    def gradients(self, run: Run) -> None:
        """After backward, before anything is done to the gradients: those of pruned weights are still there."""

    def after_step(self, run: Run) -> None:
        """After the optimizer's step; zeros are back in place."""

    def after_epoch(self, run: Run) -> None:
        """After the last step of an epoch, before it is judged."""

    def settled(self, run: Run) -> bool:
        """Whether the model is now as sparse as was asked for: only then may an epoch be kept as the best."""
        return True

    def finish(self, run: Run) -> None:
        """After the last epoch, or when cancelled, before the best state is taken."""

    def to_dict(self) -> dict[str, Any]:
        """Name and settings, plain values."""
        name = next((key for key in registry if registry[key] is type(self)), type(self).__name__)
        return {"name": name} | (
            {one.name: getattr(self, one.name) for one in fields(self)} if is_dataclass(self) else {}
        )


registry: Registry[type[Schedule]] = Registry("schedule", __name__)


def schedules() -> tuple[str, ...]:
    """Names of the registered schedules."""
    return tuple(registry)


def schedule_of(chosen: str | Mapping[str, Any] | Schedule) -> Schedule:
    """A schedule by its name, with its defaults; from what :meth:`Schedule.to_dict` gives, {"name": "gradual", "until": 0.5}; or as it is.

    Raises :class:`SettingsError` for a setting that it does not have, or that cannot mean anything.
    """
    if isinstance(chosen, Schedule):
        return chosen
    if isinstance(chosen, str):
        return registry[chosen]()
    if not isinstance(chosen, Mapping):
        raise SettingsError(
            say(
                "schedule={value}; accepted: a name of explorer.schedules(), its name and settings as a dict, or a Schedule",
                value=shown(chosen),
            )
        )
    given = dict(chosen)
    made: Any = registry[str(given.pop("name", ""))]
    known = [one.name for one in fields(made)]
    for key in given:
        if key not in known:
            raise SettingsError(say("no setting {name!r}; {hint}", name=key, hint=near(str(key), known)))
    return made(**given)  # type: ignore[no-any-return]
