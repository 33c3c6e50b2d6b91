from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...compress.resolve import resolve
from ...core.recipe import Recipe
from ...core.rules import UNIT_PRUNE
from ...models.removal import gone
from ...models.structure import Cut
from ..checks import count
from . import Schedule, registry
from ._goals import later_units, take_units, without_units

if TYPE_CHECKING:
    from ..run import Run


@registry.register("soft-filter")
@dataclass(frozen=True)
class SoftFilter(Schedule):
    """After each epoch the least important filters are set to zero, and are free to grow back in the next one; at the
    end those that are zero are removed.

    So a filter that was misjudged early may return, and the model keeps its capacity while it is trained. The unit
    rules say how many filters (or neurons, hidden units, heads) go, and by which criterion: the source takes the L2
    norm, criterion="l2". Zeroed are the weights and biases that produce a unit, and the shift and running mean of a
    BatchNorm behind it, so that the unit says nothing; what reads it stays, or no gradient could reach it any more.
    ``every``: epochs between two such cuts. Weight rules are cut at the start and held.
    Source: He et al. 2018, "Soft Filter Pruning", arXiv 1808.06866, section 3.2, algorithm 1.
    """

    title = "soft filter pruning"
    labels = {"every": "Epochs between cuts"}

    every: int = 1

    def __post_init__(self) -> None:
        count("every", self.every)

    def start(self, recipe: Recipe) -> Recipe:
        return without_units(recipe)

    def begin(self, run: Run) -> None:
        pairs(run)  # units that cannot go are refused before anything is trained
        run.memory["zeroed"] = not any(later_units(rule) for rule in run.recipe.rules)

    def before_epoch(self, run: Run) -> None:
        run.memory["zeroed"] = not any(later_units(rule) for rule in run.recipe.rules)

    def after_epoch(self, run: Run) -> None:
        if run.epoch % self.every == 0 or run.epoch == run.settings.epochs:
            self._zero(run)

    def _zero(self, run: Run) -> None:
        run.hold.restore()
        tensors: dict[str, Any] = {
            **dict(run.module.named_parameters(remove_duplicate=False)),
            **dict(run.module.named_buffers()),
        }
        with torch.no_grad():
            for cut, kept in pairs(run):
                for tensor, dim, index in produced(cut, kept, tensors):
                    tensor.data.index_fill_(dim, index.to(tensor.device), 0.0)
        run.hold.set(run.hold.masks)  # codebooks have other members now
        run.memory["zeroed"] = True

    def settled(self, run: Run) -> bool:
        return bool(run.memory["zeroed"])

    def finish(self, run: Run) -> None:
        if run.best_state is not None:
            run.rewind(run.best_state, optimizer=False)
        elif not run.memory.get("zeroed"):
            self._zero(run)
        tensors = dict(run.module.named_parameters(remove_duplicate=False))
        units = [(cut, silent(cut, kept, tensors)) for cut, kept in pairs(run)]
        if units:
            take_units(run, gone(units))


def pairs(run: Run) -> list[tuple[Cut, Tensor]]:
    """(group, the units that stay of it) by the recipe's unit rules, for the weights as they are now."""
    only = replace(
        run.recipe, rules=tuple(one for one in run.recipe.rules if later_units(one) or one.kind in ("clear", "keep"))
    )
    if not any(rule.kind == UNIT_PRUNE for rule in only.rules):
        return []
    with run.bare() as now:
        plan = resolve(now, only)
        return [(now.structure.cuts[name], kept) for name, kept in plan.kept.items()]


def produced(cut: Cut, kept: Tensor, tensors: dict[str, Any]) -> Iterator[tuple[Tensor, int, Tensor]]:
    """(tensor, dim, indices) of all that makes the units that do not stay say something."""
    away = torch.ones(cut.group.units, dtype=torch.bool)
    away[kept] = False
    for piece in cut.slices:
        tensor, leaf = tensors.get(piece.tensor), piece.tensor.rpartition(".")[2]
        shifts = (
            piece.role == "follower"
            and tensor is not None
            and tensor.ndim == 1
            and leaf not in ("weight", "running_var")
        )
        if tensor is not None and (piece.role == "producer" or shifts):
            yield tensor, piece.dim, piece.index[away].reshape(-1)


def silent(cut: Cut, kept: Tensor, tensors: dict[str, Any]) -> Tensor:
    """The units that stay where as many go as ``kept`` says: first those whose producers are all zero."""
    size = torch.zeros(cut.group.units, dtype=torch.float64)
    for piece in cut.slices:
        if piece.role == "producer" and piece.tensor in tensors:
            rows = tensors[piece.tensor].detach().movedim(piece.dim, 0).flatten(1).abs().amax(1).cpu().double()
            size = torch.maximum(size, rows[piece.index].reshape(cut.group.units, -1).amax(1))
    order = torch.ones(cut.group.units, dtype=torch.bool)
    order[kept] = False
    rank = size.argsort(stable=True) if int((size == 0).sum()) >= int(order.sum()) else None
    if rank is None:
        return kept
    return rank[int(order.sum()) :].sort().values
