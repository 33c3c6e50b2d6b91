"""The whole model after the first steps of a path: what a suggestion is checked on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..compress.resolve import resolve
from ..core.errors import Cancelled
from ..core.message import say
from ..core.recipe import Recipe
from ..core.report import Report
from ..evaluate.costs import counts
from ..evaluate.evaluator import evaluate
from ..evaluate.sweep import Sweep, Target
from ..models.subject import Subject
from .curves import Move


class Trials:
    """The whole model after the first k moves of the path: its recipe, counts and report."""

    def __init__(
        self, subject: Subject, sweep: Sweep, base: Recipe, targets: Mapping[str, Target], moves: list[Move], about: Mapping[str, Any],
        device: Any, cancel: Any, user: Any, progress: Any,
    ) -> None:  # fmt: skip
        self.subject, self.sweep, self.base, self.targets = subject, sweep, base, targets
        self.moves, self.about = moves, about
        self.settings = {"split": about["split"], "device": device, "cancel": cancel, "user": user}
        self.progress, self.cancel = progress, cancel
        self.reports: dict[int, Report] = {}
        self.most = len(moves).bit_length() + 2  # evaluations, at most

    def points(self, k: int) -> dict[str, float]:
        """{layer or group: its sparsity or bits}."""
        return {move.target: float(move.step.point or 0) for move in self.moves[:k]}

    def recipe(self, k: int) -> Recipe:
        """The base with all of them."""
        recipe = self.base
        for target, point in self.points(k).items():
            recipe = self.sweep.edit(recipe, self.targets[target], point)
        return recipe

    def counted(self, k: int) -> Any:
        if self.cancel is not None and self.cancel():
            raise Cancelled(say("{subject}: suggestion cancelled", subject=self.subject.name))
        return counts(self.subject, resolve(self.subject, self.recipe(k)))

    def report(self, k: int) -> Report:
        if k not in self.reports:
            self.reports[k] = evaluate(self.subject, self.recipe(k), **self.settings)
            if self.progress is not None:
                self.progress(len(self.reports), max(self.most, len(self.reports)))
        return self.reports[k]

    def drop(self, k: int) -> float:
        """Of the main metric, against the base, measured; positive is worse."""
        sign = 1.0 if self.about["lower_is_better"] else -1.0
        start, found = self.report(0), self.report(k)
        return sign * (found.metrics[found.main] - start.metrics[start.main])
