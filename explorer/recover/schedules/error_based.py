from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...compress.units import groups_of
from ...core.recipe import Recipe
from ...core.targets import effective
from ...evaluate.error_search import Search
from ...evaluate.error_trace import SAMPLES, Terms, Trial
from ..checks import between, count
from . import Schedule, registry
from ._goals import later_units, take_units, without_units

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..run import Run


@registry.register("error-based")
@dataclass(frozen=True)
class ErrorBased(Schedule):
    """Before an epoch every unit that remains is left out, one at a time; the cheapest go if the model errs little
    more without them, then the epoch retrains it.

    A unit goes whose removal costs less than ``allowance`` of the main metric (0.005: half a point of accuracy) on
    ``samples`` training samples, in the state from which it goes; the others are retained. In one round at most
    ``at_once`` go (None: a tenth of those that remain), which together cost no more than the allowance; what
    retraining won back may be spent in the next. It ends with a round that removes none. Candidates are the units
    that the recipe's unit rules mean, of each group at most as many as the rule's sparsity says; of all groups,
    without such rules. The rules' criteria are not used. Each decision is told, with its cost and interval.
    Source of the idea: Mozer, Smolensky 1989, Skeletonization, NIPS 1; the exact cost: Molchanov et al. 2017, arXiv
    1611.06440, section 2.1 (the oracle).
    """

    title = "error-based with retraining"
    labels = {
        "allowance": "Allowed cost of a unit",
        "samples": "Samples to judge by",
        "at_once": "At most in a round",
    }

    allowance: float = 0.005
    samples: int = SAMPLES
    at_once: int | None = None

    def __post_init__(self) -> None:
        between("allowance", self.allowance, 0.0, 1e9)
        count("samples", self.samples)
        if self.at_once is not None:
            count("at_once", self.at_once)

    def start(self, recipe: Recipe) -> Recipe:
        return without_units(recipe)

    def begin(self, run: Run) -> None:
        with run.bare() as now:
            run.memory["least"] = least(run.recipe, now)
        run.memory |= {"done": False, "round": 0}

    def before_epoch(self, run: Run) -> None:
        if run.memory["done"]:
            return
        run.memory["round"] += 1
        with run.bare() as now:
            search = self._search(run, now)
            gone = 0 if search is None else self._round(run, search)
            dropped = now_dropped(now, search) if search is not None and gone else {}
        if dropped:
            take_units(run, dropped)
        run.memory["done"] = not gone

    def _search(self, run: Run, now: Subject) -> Search | None:
        """The search among groups that may still lose units; None where there is none."""
        there = {group.name: group.units for group in now.groups}
        able = [name for name, few in run.memory["least"].items() if there.get(name, 0) > few]
        if not able:
            return None
        terms = Terms(self.allowance, None, able, "train", self.samples)
        search = Search(now, Recipe(), terms, {"device": run.device, "cancel": run.cancel})
        search.rounds = run.memory["round"] - 1
        return search

    def _round(self, run: Run, search: Search) -> int:
        """One round: units that may go are marked in ``search``. Returns how many."""
        gone = 0
        for trial in search.round():
            run.note(trial.reason, **told(trial))
            gone += trial.removed
            if len(search.left[trial.group]) <= run.memory["least"][trial.group]:
                search.left[trial.group] = {
                    min(search.left[trial.group])
                }  # the rule's sparsity is reached: the rest stays
            if gone and gone == self.at_once:
                break
        return gone


def least(recipe: Recipe, now: Subject) -> dict[str, int]:
    """{group: how many units stay at least} of the groups that may lose some."""
    rules = recipe.rules
    if not any(later_units(rule) for rule in rules):
        _, protected = effective(rules, now.layers, now.name)
        return {group.name: 1 for group in now.groups if not protected.intersection(group.producers)}
    meant = groups_of(now, rules, *effective(rules, now.layers, now.name))
    found = {}
    for index, cuts in meant.items():
        if later_units(rules[index]):
            sparsity = getattr(rules[index], "sparsity", None)
            for cut in cuts:
                units = cut.group.units
                found[cut.group.name] = 1 if sparsity is None else max(units - round(sparsity * units), 1)
    return found


def now_dropped(now: Subject, search: Search) -> dict:
    """The entries that go with the units that ``search`` found."""
    from ...compress.resolve import resolve

    return dict(resolve(now, search.recipe()).dropped)


def told(trial: Trial) -> dict:
    """A decision as plain values."""
    return vars(trial) | {"reason": str(trial.reason)}
