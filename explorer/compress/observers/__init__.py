"""Observers, one file each; the registry discovers the folder. They turn statistics of activations into a clipping range."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...core.registry import Registry
from ..statistics import Statistics


class Observer(ABC):
    """Finds the range of an activation from what was seen of it. The docstring is shown on screen as help."""

    title: str

    @abstractmethod
    def range(self, seen: Statistics, bits: int, scheme: str) -> tuple[float, float]:
        """(low, high), values beyond which are clipped; widened to include 0 afterwards."""


registry: Registry[type[Observer]] = Registry("observer", __name__)


def observers() -> tuple[str, ...]:
    """Names of the registered observers."""
    return tuple(registry)
