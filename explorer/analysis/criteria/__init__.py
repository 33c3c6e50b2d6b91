"""Importance criteria, one file each; the registry discovers the folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from ...core.registry import Registry

if TYPE_CHECKING:
    from ...models.subject import Subject


class Criterion(ABC):
    """Scores the entries of weight tensors; small means unimportant. The docstring is shown on screen as help."""

    title: str
    signed_axis: bool = False
    """True where the score is |w|, so that a histogram over signed weights shows it."""

    @abstractmethod
    def scores(self, subject: Subject, names: list[str], samples: int, seed: int) -> dict[str, Tensor]:
        """{layer: scores of the weight's shape, float32 or float64}."""

    @abstractmethod
    def aggregate(self, scores: Tensor) -> Tensor:
        """Scores of one group's producers [units, k] -> one score a unit [units]."""

    def is_compatible(self, subject: Subject, name: str) -> str | None:
        """None, or why this criterion cannot score that layer."""
        return None


registry: Registry[type[Criterion]] = Registry("criterion", __name__)


def criteria() -> tuple[str, ...]:
    """Names of the registered importance criteria."""
    return tuple(registry)
