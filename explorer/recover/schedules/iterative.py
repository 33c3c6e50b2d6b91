from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...core.errors import SettingsError
from ...core.message import say
from ...core.recipe import Recipe
from ..checks import count
from ..optimizers import optimizer_of
from . import Schedule, registry
from ._goals import cut_to, goals, no_regrow, without_weights

if TYPE_CHECKING:
    from ..run import Run


@registry.register("iterative")
@dataclass(frozen=True)
class Iterative(Schedule):
    """Train, prune, rewind, train again: the lottery ticket. Each round prunes the same share of the weights that
    remain.

    After round i of n = ``rounds`` the sparsity is 1 - (1 - s)^(i / n), s being the rule's; the criterion ranks the
    trained weights. Then the survivors go back to the values that they had after ``rewind`` epochs (0: those with
    which training began), and only the mask is kept; with rewind=None they go on from where they are. Learning-rate
    schedule and optimizer begin anew with every round. ``fresh``: training begins with newly drawn weights, as a
    lottery ticket does; else with those of the model as it is. The epochs are divided into n + 1 trainings of equal
    length, the last of which is the ticket's. Units and N:M patterns are cut at the start.
    Source: Frankle, Carbin 2019, "The Lottery Ticket Hypothesis", arXiv 1803.03635, section 1; rewinding to an
    early epoch: Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", arXiv
    1912.05671, section 3.
    """

    title = "iterative (lottery ticket)"
    labels = {"rounds": "Rounds", "rewind": "Rewind to epoch", "fresh": "New random weights"}

    rounds: int = 2
    rewind: int | None = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        count("rounds", self.rounds)
        if self.rewind is not None:
            count("rewind", self.rewind, 0)

    def start(self, recipe: Recipe) -> Recipe:
        return without_weights(recipe)

    def length(self, run: Run) -> int:
        """Epochs of the first training; later ones begin at the epoch to which they were rewound."""
        return (run.settings.epochs + self.rounds * (self.rewind or 0)) // (self.rounds + 1)

    def phase(self, run: Run) -> tuple[int, int]:
        """(round, from 0; its first epoch) of the present epoch."""
        first, later = self.length(run), self.length(run) - (self.rewind or 0)
        if run.epoch <= first:
            return 0, 1
        at = min(1 + (run.epoch - first - 1) // later, self.rounds)
        return at, 1 + first + (at - 1) * later

    def begin(self, run: Run) -> None:
        no_regrow(run, "iterative")
        early = self.rewind or 0
        if self.length(run) <= early:
            need = (self.rounds + 1) * (early + 1) - self.rounds * early
            raise SettingsError(
                say(
                    "epochs={epochs}; accepted for {rounds} rounds that rewind to epoch {rewind}: from {need}",
                    epochs=run.settings.epochs, rounds=self.rounds, rewind=early, need=need,
                )
            )  # fmt: skip
        if self.fresh:
            draw(run)
        run.memory["round"] = 0
        if self.rewind == 0:
            run.memory["early"] = run.state()

    def clock(self, run: Run) -> tuple[int, int]:
        at, first = self.phase(run)
        early = self.rewind or 0
        behind = early if at else 0
        last = run.settings.epochs if at == self.rounds else first + self.length(run) - behind - 1
        done = max(run.step - 1, 0) - (first - 1) * run.per_epoch
        return done + behind * run.per_epoch, (last - first + 1 + behind) * run.per_epoch

    def before_epoch(self, run: Run) -> None:
        at, first = self.phase(run)
        if not at or run.epoch != first or run.memory["round"] == at:
            return
        run.memory["round"] = at
        cut_to(run, {goal: 1 - (1 - goal.sparsity) ** (at / self.rounds) for goal in goals(run)})
        if self.rewind is None:
            run.optimizer = optimizer_of(run.module, run.settings)
        else:
            run.rewind(run.memory["early"])
        run.note(
            say("round {round} of {rounds}: sparsity {sparsity:.4f}", round=at, rounds=self.rounds, sparsity=run.sparsity),
            round=at, sparsity=run.sparsity,
        )  # fmt: skip

    def after_epoch(self, run: Run) -> None:
        if run.epoch == self.rewind:
            run.memory["early"] = run.state()

    def settled(self, run: Run) -> bool:
        return bool(run.memory.get("round") == self.rounds)

    def finish(self, run: Run) -> None:
        run.memory.pop("early", None)


def draw(run: Run) -> None:
    """New weights for the whole model, drawn as its modules do. Raises :class:`SettingsError` where one cannot."""
    from ..step import mixed, seeded

    with seeded(mixed(run.settings.seed, 0, 3), run.device), torch.no_grad():
        for name, module in run.module.named_modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
            elif own := [key for key, _ in module.named_parameters(recurse=False)]:
                raise SettingsError(
                    say(
                        "fresh=True: {layer} has no reset_parameters() by which it could be drawn anew; accepted: fresh=False",
                        layer=f"{name}.{own[0]}" if name else own[0],
                    )
                )
    run.hold.set(run.hold.masks)
