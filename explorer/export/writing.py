"""One file of a bundle: written, loaded again, compared; or an error and no file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from ..compress.apply import compress
from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.errors import Cancelled, ExportError, VerificationError, cause
from ..core.message import say
from ..core.recipe import Recipe
from ..models.subject import Subject
from .agreement import LEAST, Agreement, compare
from .exporters import Exporter


def meant(
    exporter: Exporter, subject: Subject, recipe: Recipe, plan: Plan, module: nn.Module
) -> tuple[Plan, nn.Module]:
    """What the format stands for: the recipe's plan and module, or those of the recipe that it adds rules to."""
    meant = exporter.meaning(subject, recipe)
    if meant == recipe:
        return plan, module
    mine = resolve(subject, meant)
    return mine, compress(subject, mine).to("cpu")


def agreement(
    exporter: Exporter, subject: Subject, plan: Plan, module: nn.Module, place: Path,
    cancel: Callable[[], bool] | None, progress: Callable[[int, int], object] | None,
) -> Agreement:  # fmt: skip
    """The file beside its simulation on validation. Raises :class:`VerificationError` for a classifier that disagrees."""
    found = compare(subject, plan, exporter.loaded(place), cancel=cancel, progress=progress)
    if subject.task.kind == "classification" and found.same is not None and found.same < LEAST:
        raise VerificationError(
            say(
                "{name}: {file} predicts another class than its simulation for {wrong:,} of {n:,} {split} samples; accepted: {most:.0%}. "
                "Nothing was exported.",
                name=subject.name, file=exporter.filename, wrong=round((1 - found.same) * found.n), n=found.n, split=found.split, most=1 - LEAST,
            )
        )  # fmt: skip
    return found


def write(
    exporter: Exporter, name: str, subject: Subject, plan: Plan, module: nn.Module, place: Path, notes: list[str]
) -> dict[str, float]:
    """{main file: largest relative difference after re-loading}; appends to ``notes``.

    Raises :class:`ExportError`, and :class:`VerificationError` above the exporter's tolerance.
    """
    try:
        written = exporter.write(subject, plan, module, place)
        gap = exporter.verify(subject, plan, module, place)
    except (ExportError, VerificationError, Cancelled):
        raise
    except Exception as error:  # a full disk, a library that gives up
        raise ExportError(
            say("{subject}: the format {name} could not be written; accepted: other formats, a disk with room ({cause})", subject=subject.name, name=name, cause=cause(error, 200))
        ) from error
    if not gap <= exporter.accepted(module):
        raise VerificationError(
            say(
                "{subject}: {file} computes something else than the compressed module: relative difference {gap:.1e}, "
                "accepted: {tolerance:.0e}. Nothing was exported.",
                subject=subject.name,
                file=written.files[0],
                gap=gap,
                tolerance=exporter.accepted(module),
            )
        )
    notes.extend(written.notes)
    return {written.files[0]: gap}
