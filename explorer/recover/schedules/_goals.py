"""What schedules share: the weights that a recipe prunes, by how much, and cutting them to less than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

from ...analysis.criteria import registry as criteria
from ...analysis.importance import weight_scores
from ...analysis.look import Look
from ...compress.resolve import cut, resolve
from ...core.errors import SettingsError
from ...core.message import say
from ...core.recipe import Recipe
from ...core.rules import UNIT_PRUNE, WEIGHT_PRUNE, Prune, Rule, pattern
from ...core.targets import effective

if TYPE_CHECKING:
    from ..run import Run


@dataclass(frozen=True)
class Goal:
    """A rule that prunes single weights, blocks or gates: the layers that it holds for, and the sparsity that they are
    to reach.
    """

    rule: Prune
    layers: tuple[str, ...]
    sparsity: float


def later(rule: Rule) -> TypeGuard[Prune]:
    """Whether a rule may come bit by bit: it zeroes weights, up to a sparsity or a threshold."""
    return (
        isinstance(rule, Prune) and rule.kind == WEIGHT_PRUNE and rule.mode == "hard" and not pattern(rule.granularity)
    )


def later_units(rule: Rule) -> TypeGuard[Prune]:
    """Whether a rule removes units."""
    return isinstance(rule, Prune) and rule.kind == UNIT_PRUNE and rule.mode == "hard"


def without_weights(recipe: Recipe) -> Recipe:
    """The recipe, its goals at a sparsity of zero. No rule is left out: an earlier one would hold in its place."""
    return replace(
        recipe, rules=tuple(replace(one, sparsity=0.0, threshold=None) if later(one) else one for one in recipe.rules)
    )


def without_units(recipe: Recipe) -> Recipe:
    """The recipe, its rules for units at a sparsity of zero."""
    return replace(
        recipe,
        rules=tuple(
            replace(one, sparsity=0.0, threshold=None, units=None, multiple=1, at_least=1) if later_units(one) else one
            for one in recipe.rules
        ),
    )


def goals(run: Run) -> tuple[Goal, ...]:
    """What the recipe's weight rules ask for, in layer order. A threshold asks for the sparsity that it cuts of the
    subject.
    """
    if "goals" not in run.scratch:
        subject, rules = run.subject, run.recipe.rules
        holds, _ = effective(rules, subject.layers, subject.name)
        layers: dict[int, list[str]] = {}
        for name in run.weights:
            if WEIGHT_PRUNE in holds[name] and later(rules[holds[name][WEIGHT_PRUNE]]):
                layers.setdefault(holds[name][WEIGHT_PRUNE], []).append(name)
        found = []
        for index, names in layers.items():
            rule = rules[index]
            assert isinstance(rule, Prune)
            if rule.sparsity is not None:
                found.append(Goal(rule, tuple(names), rule.sparsity))
                continue
            plan = resolve(subject, run.recipe)
            for name in names:
                share = plan.cut_fraction(name)
                one = replace(rule, sparsity=min(share, 1 - 1e-9), threshold=None, scope="layer")
                found.append(Goal(one, (name,), share))
        run.scratch["goals"] = tuple(found)
    return run.scratch["goals"]  # type: ignore[no-any-return]


def goal_layers(run: Run) -> list[str]:
    """The layers that goals are about."""
    return [name for goal in goals(run) for name in goal.layers]


def cut_to(
    run: Run, wanted: Mapping[Goal, float], scores: Mapping[str, Tensor] | None = None, *, again: bool = False
) -> None:
    """Hold masks of these sparsities from now on: exactly ``round(s n)`` of the entries that remain are zero.

    scores: {layer: of its shape now, low means unimportant}; None: the rules' own criteria on the weights as they
    are, whose pass asks ``run.cancel``. again: entries that are pruned compete for their return; else they are the first to stay away, whatever the
    criterion says.
    """
    masks = run.masks
    with run.bare() as now:
        for goal, sparsity in wanted.items():
            names = [name for name in goal.layers if name in run.weights]
            mine = scores or weight_scores(now, criteria[goal.rule.criterion](), names, Look(cancel=run.cancel))
            ranked = {name: mine[name] if again else _last(mine[name], run.masks.get(name)) for name in names}
            rule = replace(goal.rule, sparsity=min(sparsity, 1 - 1e-9), threshold=None)
            masks.update(cut(now, rule, ranked, {}))
    run.set_masks(masks)


def _last(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The scores, those of what is pruned below all others."""
    if mask is None or not scores.numel():
        return scores
    return scores.masked_fill(~mask.to(scores.device), float(scores.min()) - 1.0)


def cut_units(run: Run) -> bool:
    """Remove the units that the recipe asks for, judged by the weights as they are now. Returns whether any went."""
    if not any(later_units(rule) for rule in run.recipe.rules):
        return False
    only = replace(
        run.recipe, rules=tuple(one for one in run.recipe.rules if one.kind in (UNIT_PRUNE, "clear", "keep"))
    )
    dropped = run.resolve(only).dropped
    if dropped:
        take_units(run, dropped)
    return bool(dropped)


def take_units(run: Run, dropped: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Remove entries for good; a checkpoint knows of it."""
    plain = {name: {dim: index.cpu() for dim, index in dims.items()} for name, dims in dropped.items()}
    run.drop(plain)
    run.removed.append(plain)


def no_regrow(run: Run, name: str) -> None:
    """Raises :class:`SettingsError` for a schedule whose masks mean something, where none are held."""
    if run.settings.regrow:
        raise SettingsError(
            say("regrow=True holds no masks, which {schedule} is about; accepted: regrow=False", schedule=name)
        )


def step_at(run: Run, part: float) -> int:
    """The step that ends this part of the training."""
    return round(part * run.steps)


def cubic(initial: float, final: float, done: float) -> float:
    """Sparsity when a share ``done`` of the way is gone: s_f + (s_i - s_f) (1 - done)^3. Source: Zhu, Gupta 2017,
    arXiv 1710.01878, eq. 1.
    """
    return final + (min(initial, final) - final) * (1 - done) ** 3
