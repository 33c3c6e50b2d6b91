"""Scores of the user's own: one value a sample, or a (numerator, denominator) pair for a ratio of sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.errors import EvaluationError
from ...core.message import say
from ...core.report import Change, Figure
from ...models.task import Task
from .. import intervals
from . import BATCH, Columns, Metrics, figure, largest_changes, once


class Custom(Metrics):
    """Columns: ``<name>`` [N] and, for ratios, ``<name>/`` [N], the denominators."""

    def columns(self, task: Task, outputs: Any, targets: Any) -> dict[str, Tensor]:
        assert task.score is not None
        out: dict[str, Tensor] = {}
        scored = task.score(outputs, targets)
        if not isinstance(scored, Mapping):
            raise EvaluationError(
                say(
                    "score(outputs, targets) returned {type}; accepted: {{name: Tensor[N]}}", type=type(scored).__name__
                )
            )
        for name, value in scored.items():
            if not isinstance(name, str) or name.endswith("/"):
                raise EvaluationError(say("score(outputs, targets) names a metric {name!r}; accepted: a text that does not end in /", name=name))
            parts = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            for suffix, part in zip(("", "/"), parts, strict=False):
                column = torch.as_tensor(part).cpu()  # where float64 exists
                if column.ndim != 1 or len(parts) > 2:
                    raise EvaluationError(
                        say(
                            "score {name!r} returned shape {shape}; accepted: [N], one value a sample, or a (numerator, denominator) "
                            "pair of these",
                            name=name,
                            shape=tuple(column.shape),
                        )
                    )
                if not intervals.finite(column):
                    raise EvaluationError(
                        say("score {name!r} returned NaN or infinity; accepted: finite values", name=name)
                    )
                out[name + suffix] = column.double()
        if not out:
            raise EvaluationError(say("score(outputs, targets) returned no metric; accepted: {name: Tensor[N]}"))
        if task.loss is not None and "loss" not in out:
            value, n = task.loss(outputs, targets), len(next(iter(out.values())))
            if isinstance(value, (tuple, list)):
                out["loss"], out["loss/"] = (torch.as_tensor(part).cpu().double() for part in value)
            else:  # one value a batch
                out |= {"loss": torch.full((n,), float(value)), BATCH: torch.ones(n, dtype=torch.bool)}
            if not intervals.finite(out["loss"]):
                raise EvaluationError(say("loss(outputs, targets) returned NaN or infinity; accepted: finite values"))
        return out

    @once
    def figures(self, columns: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        out = {}
        for name in (n for n in columns if not n.endswith("/")):
            top, n = columns[name], len(columns[name])
            if f"{name}/" in columns:
                bottom = columns[f"{name}/"]
                total = bottom.sum().item()
                value = top.sum().item() / total if total else float("nan")
                out[name] = figure(value, split, n, intervals.ratio(top, bottom, within))
            else:
                alone = name == "loss" and BATCH in columns
                out[name] = figure(top.double().mean().item(), split, n, (None, None) if alone else intervals.mean(top, within))
        return out

    def changes(self, before: Columns, after: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        first, second = self.figures(before, split, within), self.figures(after, split, within)
        out = {}
        for name in second:
            paired: tuple[float | None, float | None] = (None, None)
            if name == "loss" and BATCH in after:
                pass
            elif f"{name}/" not in after:
                paired = intervals.mean(after[name] - before[name], within)
            elif torch.equal(before[f"{name}/"], after[f"{name}/"]):
                paired = intervals.ratio(after[name] - before[name], after[f"{name}/"], within)
            out[name] = figure(second[name].value - first[name].value, split, len(after[name]), paired)
        return out

    def changed(self, before: Columns, after: Columns, indices: Tensor) -> list[Change]:
        main = next(iter(after))
        values = [c[main] / c[f"{main}/"].clamp(min=1e-12) if f"{main}/" in c else c[main] for c in (before, after)]
        return largest_changes(values[0], values[1], indices, None)
