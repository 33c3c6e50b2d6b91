"""A map of sparsity and bits, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .recipe import Recipe

UNQUANTIZED = 32  # "bits" of weights that are left as they are


@dataclass(frozen=True)
class Cell:
    """One recipe of the map, seen on the first ``n`` of ``total`` samples.

    value: the main metric (measured), low, high: its 95 % interval or None. change: value minus the original's on the same
    samples. bytes: counted, every tensor in its smallest form. row, column: places in the lists of bits and of sparsities.
    """

    row: int
    column: int
    sparsity: float
    bits: int
    metric: str
    value: float
    low: float | None
    high: float | None
    change: float
    n: int
    total: int
    bytes: int
    recipe: Recipe

    @property
    def complete(self) -> bool:
        """Whether every sample of the split was seen."""
        return self.n == self.total


def frontier(cells: Iterable[Cell], lower_is_better: bool = False) -> tuple[Cell, ...]:
    """The Pareto frontier, by bytes: cells that no other one beats in both bytes and metric; of equals the first one.

    A cell that was seen on fewer samples than another is compared all the same; ``n`` says how far to trust it.
    """
    sign = -1.0 if lower_is_better else 1.0
    best: list[Cell] = []
    for cell in sorted(cells, key=lambda one: (one.bytes, -sign * one.value)):
        if cell.value == cell.value and (not best or sign * cell.value > sign * best[-1].value):
            best.append(cell)
    return tuple(best)
