from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.recipe import Recipe
from ..checks import between, count
from . import Schedule, registry
from ._goals import cubic, cut_to, goal_layers, goals, no_regrow, step_at, without_weights

if TYPE_CHECKING:
    from ..run import Run


@registry.register("movement")
@dataclass(frozen=True)
class Movement(Schedule):
    """Weights that move away from zero stay, those that move towards it go, whatever their size.

    S ← S - ∂L/∂w' · w in every step, w' = w · mask being what the model computes with: a score rises where the
    weight grows. The weights with the highest scores stay, as many as the cubic schedule says (s_f - s_f (1 -
    t/T)³, T at ``until`` of all steps). Pruned weights keep the value that they had, and their scores go on, so one
    whose gradient asks for it comes back. The cut is renewed every ``every`` steps (the source: every one) and
    stays from T on. The rules' own criteria are not used. Units and N:M patterns are cut at the start.
    Source: Sanh, Wolf, Rush 2020, "Movement Pruning", arXiv 2005.07683, section 4, eq. 2 to 4 (hard movement
    pruning).
    """

    title = "movement pruning"
    labels = {"until": "Cuts end at", "every": "Steps between cuts"}

    until: float = 0.6
    every: int = 10

    def __post_init__(self) -> None:
        between("until", self.until)
        count("every", self.every)

    def start(self, recipe: Recipe) -> Recipe:
        return without_weights(recipe)

    def begin(self, run: Run) -> None:
        no_regrow(run, "movement")
        weights = run.weights
        run.memory["scores"] = {name: torch.zeros_like(weights[name].detach()) for name in goal_layers(run)}
        run.memory["behind"] = {name: weights[name].detach().clone() for name in goal_layers(run)}
        run.memory["settled"] = not goals(run)

    def gradients(self, run: Run) -> None:
        if run.memory["settled"]:
            return
        run.hold.restore()  # the weights behind the rounding
        weights = run.weights
        for name, score in run.memory["scores"].items():
            grad = weights[name].grad
            if grad is not None:
                score.sub_(torch.nan_to_num(grad.float() * self._whole(run, name, weights[name])))

    @staticmethod
    def _whole(run: Run, name: str, weight: Tensor) -> Tensor:
        """The weight with the values that pruned entries had."""
        mask = run.hold.masks.get(name)
        return weight.detach() if mask is None else torch.where(mask, weight.detach(), run.memory["behind"][name])

    def after_step(self, run: Run) -> None:
        last = step_at(run, self.until)
        if run.memory["settled"] or (run.step % self.every and run.step < last):
            return
        self._cut(run, min(run.step / last, 1.0) if last else 1.0)

    @torch.no_grad()
    def _cut(self, run: Run, done: float) -> None:
        weights = run.weights
        for name in run.memory["scores"]:
            whole = self._whole(run, name, weights[name]).clone()
            run.memory["behind"][name] = whole
            weights[name].data.copy_(whole)
        wanted = {goal: cubic(0.0, goal.sparsity, done) for goal in goals(run)}
        cut_to(run, wanted, run.memory["scores"], again=True)
        if done >= 1:
            run.memory |= {"settled": True, "scores": {}, "behind": {}}

    def settled(self, run: Run) -> bool:
        return bool(run.memory["settled"])

    def finish(self, run: Run) -> None:
        if run.step >= run.steps and not run.memory["settled"]:
            self._cut(run, 1.0)
