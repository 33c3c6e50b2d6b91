"""The README's account of how a recovered model came from its original: each step, what it did, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..core.report import Figure
from ..core.training import Entry, cost
from ..models.subject import Subject
from ..recover.settings import Settings

MOST = 20  # notes of a step that are printed; all are in report.json


def lineage(subject: Subject) -> list[str]:
    """Lines of Markdown; none for a model that was never recovered."""
    spent = cost(subject.history)
    if spent is None:
        return []
    first = subject.history[0].parent
    lines = [
        "## Recovered", "",
        f"This model was trained further: it came from **{first}** in {len(subject.history)} step(s), which took {_spent(spent.epochs, spent.seconds, spent.evaluations)}.",
        f"Energy: {_energy(spent.energy, spent.energy_source)}. Scores below are validation's, which chose the epoch that was kept.", "",
        "| step | from | metric | before | damaged | after | epochs | seconds | evaluations | energy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in subject.history:
        lines.append(
            f"| {one.what}{'' if one.complete else ' (ended early)'} | {one.parent} | {one.metric or '-'} | {_value(one.before, one.metric)} | "
            f"{_value(one.damaged, one.metric)} | {_value(one.after, one.metric)} | {one.epochs} | {one.seconds:.0f} | {one.evaluations} | "
            f"{'-' if one.energy is None else f'{one.energy:,.0f} J'} |"
        )
    lines.append("")
    for number, one in enumerate(subject.history, 1):
        lines += _step(number, one)
    return [*lines, "The whole history, curves included, is in `report.json`.", ""]


def _step(number: int, entry: Entry) -> list[str]:
    lines = [
        f"{number}. {entry.what} of {entry.parent} (weights {entry.digest}) with", "", "   ```python",
        *(f"   {line}" for line in f"recipe = {entry.recipe.to_python()}".splitlines()), "   ```", "",
    ]  # fmt: skip
    how = ", ".join(f"{name}={value!r}" for name, value in changed(entry.settings).items())
    lines += [f"   Settings: {how or 'all at their defaults'}{f', on {entry.device}' if entry.device else ''}.", ""]
    notes = [f"   - {note.text}" for note in entry.notes[:MOST]]
    if len(entry.notes) > MOST:
        notes.append(f"   - and {len(entry.notes) - MOST} more")
    return [*lines, *notes, *([""] if notes else [])]


def changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that are not the defaults; the seed always."""
    usual = {one.name: one.default for one in fields(Settings)} | {"schedule": {"name": "one-shot"}, "objective": {}}
    return {
        name: value for name, value in settings.items() if name == "seed" or name not in usual or value != usual[name]
    }


def _value(figures: Mapping[str, Figure], metric: str) -> str:
    return f"{figures[metric].value:.4f}" if metric in figures else "-"


def _spent(epochs: int, seconds: float, evaluations: int) -> str:
    return f"{epochs} epochs, {seconds:,.0f} seconds and {evaluations} evaluations of the validation split, measured"


def _energy(joules: float | None, source: str) -> str:
    return (
        f"{joules:,.0f} J, measured ({source})" if joules is not None else "not measured, no counter that could be read"
    )
