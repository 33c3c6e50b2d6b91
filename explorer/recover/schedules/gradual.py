from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.recipe import Recipe
from ..checks import between, count
from . import Schedule, registry
from ._goals import cubic, cut_to, goals, step_at, without_weights

if TYPE_CHECKING:
    from ..run import Run


@registry.register("gradual")
@dataclass(frozen=True)
class Gradual(Schedule):
    """Sparsity rises while the model is trained: much is pruned at first, where much is redundant, and ever less
    later.

    s_t = s_f + (s_i - s_f) · (1 - (t - t_0) / (n Δt))³ at the steps t = t_0, t_0 + Δt, ..., t_0 + n Δt: s_f is the
    rule's sparsity, s_i = ``initial``, n = ``pulses``. ``since`` and ``until`` are the shares of all steps at which
    the cuts begin and end; what is left of the training recovers from the last one. At each cut the rule's
    criterion ranks the weights as they are by then; what is pruned stays so. Sparsities are met to the weight.
    Units and N:M patterns are cut at the start.
    Source: Zhu, Gupta 2017, "To prune, or not to prune", arXiv 1710.01878, section 3, eq. 1.
    """

    title = "gradual (cubic)"
    labels = {
        "initial": "First sparsity",
        "since": "Cuts begin at",
        "until": "Cuts end at",
        "pulses": "Number of cuts",
    }

    initial: float = 0.0
    since: float = 0.0
    until: float = 0.6
    pulses: int = 20

    def __post_init__(self) -> None:
        between("initial", self.initial)
        between("since", self.since)
        between("until", self.until, self.since)
        count("pulses", self.pulses)

    def start(self, recipe: Recipe) -> Recipe:
        return without_weights(recipe)

    def begin(self, run: Run) -> None:
        run.memory |= {"pulse": -1, "settled": not goals(run)}

    def pulse(self, run: Run) -> int:
        """The last cut that is due at this step, -1 for none."""
        first, last = step_at(run, self.since), step_at(run, self.until)
        if run.step >= last:
            return self.pulses
        if run.step < first:
            return -1
        return int((run.step - first) * self.pulses / (last - first))

    def after_step(self, run: Run) -> None:
        due = self.pulse(run)
        if due > run.memory["pulse"]:
            self._cut(run, due)

    def _cut(self, run: Run, due: int) -> None:
        if due or self.initial:
            cut_to(run, {goal: cubic(self.initial, goal.sparsity, due / self.pulses) for goal in goals(run)})
        run.memory |= {"pulse": due, "settled": due == self.pulses}

    def settled(self, run: Run) -> bool:
        return bool(run.memory["settled"])

    def finish(self, run: Run) -> None:
        if run.step >= run.steps and not run.memory["settled"]:  # no step to wait for
            self._cut(run, self.pulses)
