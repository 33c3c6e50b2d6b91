from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from ...compress.units import groups_of
from ...core.checks import shown
from ...core.errors import SettingsError, near
from ...core.message import say
from ...core.recipe import Recipe
from ...core.targets import effective
from ...models.structure import Cut
from ..checks import between
from . import Schedule, registry
from ._goals import cut_to, cut_units, goal_layers, goals, later, later_units, step_at, without_units, without_weights

if TYPE_CHECKING:
    from ..run import Run

Norm = Literal["l1", "l2", "group"]
NORMS: tuple[str, ...] = get_args(Norm)


@registry.register("penalty")
@dataclass(frozen=True)
class Penalty(Schedule):
    """Training with a penalty that draws weights, or whole units, to zero; then the recipe prunes what has become
    small, and the rest is trained without it.

    ``norm`` "l1": λ Σ |w|, which makes single weights zero. "l2": λ/2 Σ w², for contrast: all weights become
    smaller and hardly one becomes zero. "group": λ Σ_u √n_u ‖w_u‖₂, the group lasso, w_u being all n_u weights that
    go with unit u: the rows that produce it and the columns that read it, in every layer of the group. Of a hidden
    unit of an LSTM or GRU these are its rows in all gates, its column of the recurrent matrix, and what reads it
    (the "intrinsic sparse structure"), so recurrent layers become narrower. ``strength`` is λ. The penalty is on
    the layers (groups) that the recipe prunes, or on all where it prunes none, and ends at ``until``, a share of
    the steps. Weights on which two parts of a unit meet count once.
    Source: Tibshirani 1996, J. R. Stat. Soc. B 58(1); Yuan, Lin 2006, J. R. Stat. Soc. B 68(1), eq. 2.1; Wen et al.
    2016, arXiv 1608.03665, section 3; Wen et al. 2018, "Learning Intrinsic Sparse Structures within LSTM", arXiv
    1709.05027, section 3.
    """

    title = "sparsity-constrained (penalty)"
    labels = {
        "norm": "Penalty",
        "l1": "L1 (lasso)",
        "l2": "L2 (for contrast)",
        "group": "group lasso",
        "strength": "Strength λ",
        "until": "Penalty ends at",
    }

    norm: Norm = "l1"
    strength: float = 1e-5
    until: float = 0.6

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise SettingsError(say("norm={value}; {hint}", value=shown(self.norm), hint=near(str(self.norm), NORMS)))
        between("strength", self.strength, 0.0, 1e6)
        between("until", self.until)

    def start(self, recipe: Recipe) -> Recipe:
        return without_units(without_weights(recipe))

    def begin(self, run: Run) -> None:
        run.memory["pruned"] = False
        if self.norm == "group" and not groups(run):
            raise SettingsError(
                say(
                    "{subject}: no group of units that a penalty could draw to zero; accepted: l1, l2",
                    subject=run.subject.name,
                )
            )

    def penalty(self, run: Run) -> Tensor | None:
        if run.memory["pruned"] or not self.strength:
            return None
        weights = run.weights
        if self.norm == "group":
            pairs = [unit_norms(run, cut) for cut in groups(run)]
            return self.strength * torch.stack([(root * norm).sum() for root, norm in pairs]).sum()
        named = [weights[name] for name in goal_layers(run) or weights]
        sums = [one.abs().sum() if self.norm == "l1" else 0.5 * one.square().sum() for one in named]
        return self.strength * torch.stack(sums).sum()

    def after_step(self, run: Run) -> None:
        if not run.memory["pruned"] and run.step >= step_at(run, self.until):
            self._prune(run)

    def _prune(self, run: Run) -> None:
        cut_units(run)
        cut_to(run, {goal: goal.sparsity for goal in goals(run)})
        run.memory["pruned"] = True

    def settled(self, run: Run) -> bool:
        rules = run.recipe.rules
        return bool(run.memory["pruned"]) or not any(later(rule) or later_units(rule) for rule in rules)

    def finish(self, run: Run) -> None:
        if run.step >= run.steps and not run.memory["pruned"]:
            self._prune(run)


def groups(run: Run) -> list[Cut]:
    """The groups that the recipe's unit rules mean, or all of them."""
    if "groups" not in run.scratch:
        rules = run.recipe.rules
        with run.bare() as now:
            meant = groups_of(now, rules, *effective(rules, now.layers, now.name))
            cuts = [cut for index, cuts in meant.items() if later_units(rules[index]) for cut in cuts]
            run.scratch["groups"] = cuts or list(now.structure.cuts.values())
    return run.scratch["groups"]  # type: ignore[no-any-return]


def unit_norms(run: Run, cut: Cut) -> tuple[Tensor, Tensor]:
    """(√n_u, ‖w_u‖₂), each [units], over the weights of two or more dimensions that go with a unit."""
    squares = torch.zeros(cut.group.units, device=run.device)
    sizes = torch.zeros(cut.group.units, device=run.device)
    for parameter, dims in owned(run, cut):
        values = parameter.square()
        for dim, owner in dims.items():
            rest = [d for d in range(values.ndim) if d != dim]
            mine = owner >= 0
            squares = squares.index_add(0, owner[mine], values.sum(rest)[mine])
            sizes = sizes.index_add(
                0, owner[mine], torch.full_like(owner[mine], values.numel() // len(owner), dtype=sizes.dtype)
            )
        if len(dims) == 2:
            (first, a), (second, b) = sorted(dims.items())
            plane = values.sum([d for d in range(values.ndim) if d not in dims]) if values.ndim > 2 else values
            twice = (a[:, None] == b[None, :]) & (a >= 0)[:, None]
            mine, per = a >= 0, values.numel() // (values.shape[first] * values.shape[second])
            squares = squares.index_add(0, a[mine], -(plane * twice).sum(1)[mine])
            sizes = sizes.index_add(0, a[mine], -(twice.sum(1) * per).to(sizes)[mine])
    return sizes.sqrt(), squares.clamp(min=1e-24).sqrt()


def owned(run: Run, cut: Cut) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """(weight, {dim: [size] the unit of each index, -1 for none}) of all weights that go with the units of a group."""
    key = f"owned {cut.group.name}"
    parameters = dict(run.module.named_parameters(remove_duplicate=False))
    if key not in run.scratch:
        table: dict[str, dict[int, Tensor]] = {}
        for piece in cut.slices:
            parameter = parameters.get(piece.tensor)
            if parameter is not None and parameter.ndim > 1 and piece.role != "attribute" and piece.dim >= 0:
                owner = table.setdefault(piece.tensor, {}).setdefault(
                    piece.dim, torch.full((parameter.shape[piece.dim],), -1)
                )
                units = torch.arange(cut.group.units)[:, None].expand(piece.index.shape[0], piece.index[0].numel())
                owner[piece.index.reshape(-1)] = units.reshape(-1)
        run.scratch[key] = {
            name: {dim: owner.to(run.device) for dim, owner in dims.items()} for name, dims in table.items()
        }
    for name, dims in run.scratch[key].items():
        yield parameters[name], dims
