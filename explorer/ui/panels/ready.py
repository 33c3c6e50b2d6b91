"""Before anything is ranked by a criterion that looks at data: gather what it needs, with a bar."""

from __future__ import annotations

import time
from typing import Any, Literal

import streamlit as st

import explorer
from explorer.analysis.criteria import ACTIVATIONS, GRADIENTS, registry
from explorer.analysis.evidence import evidence
from explorer.analysis.importance import importance
from explorer.analysis.look import Look
from explorer.core.errors import ExplorerError
from explorer.core.recipe import Recipe
from explorer.core.rules import Prepare, Prune, Quantize
from explorer.core.targets import select
from explorer.models.subject import Subject

from .. import bars
from ..i18n import _

Granularity = Literal["weight", "unit"]
PATIENCE = 0.3  # seconds before a bar is worth its place


def prepare(subject: Subject, recipe: Recipe) -> None:
    """See to it that resolving the recipe will not take long unseen. What goes wrong is said where it is used."""
    for rule in recipe.rules:
        if isinstance(rule, Prune) and rule.criterion in registry and registry[rule.criterion].needs:
            try:
                scored(
                    subject, rule.criterion, "unit" if rule.granularity == "unit" else "weight", _places(subject, rule)
                )
            except ExplorerError:
                continue
    levels(subject, recipe)


def levels(subject: Subject, recipe: Recipe) -> None:
    """Resolve a recipe that quantizes, which keeps its plan; a bar stands there while it takes long. An event on the page ends it."""
    if any(isinstance(rule, (Quantize, Prepare)) for rule in recipe.rules):
        bar = Bar(_("searching ranges and levels …"), after=PATIENCE)
        try:
            explorer.resolve(subject, recipe, progress=bar)
        except ExplorerError:
            pass  # said where it is used
        finally:
            bar.end()


def _places(subject: Subject, rule: Prune) -> list[str]:
    layers = select(rule.targets, subject.layers, subject.name)
    if rule.granularity != "unit":
        return [layer.name for layer in layers]
    return list(dict.fromkeys(layer.group for layer in layers if layer.group is not None))


def scored(subject: Subject, criterion: str, granularity: Granularity, places: list[str]) -> None:
    """Score these layers (or groups), which keeps the scores; a bar stands there while it takes long."""
    entry = registry[criterion]()
    if entry.needs & {GRADIENTS, ACTIVATIONS} and subject.memo.peek(("evidence", subject.version, Look().key)) is None:
        able = any(entry.is_compatible(subject, place) is None for place in places)
        if able:
            bar = Bar(_("one pass over 1,024 training samples …"))
            try:
                evidence(subject, Look(progress=bar, device=st.session_state.get("device")))
            finally:
                bar.end()
    if entry.slow:
        missing = [
            p
            for p in places
            if subject.memo.peek((*_KEY[granularity], subject.version, entry.key, p, Look().key)) is None
        ]
        for place in missing:
            if entry.is_compatible(subject, place) is None:
                bar = Bar(_("scoring {layer}, a pass for each part …", layer=place))
                try:
                    importance(
                        subject,
                        criterion,
                        granularity=granularity,
                        layers=[place],
                        progress=bar,
                        device=st.session_state.get("device"),
                    )
                finally:
                    bar.end()


_KEY = {"weight": ("scores",), "unit": ("unit scores",)}


class Bar:
    """A bar that appears with the first report ``after`` some seconds."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        self.text, self.began, self.after = text, time.perf_counter(), after
        self.place: Any = None

    def __call__(self, done: int, total: int) -> None:
        spent = time.perf_counter() - self.began
        if spent < self.after:
            return
        if self.place is None:
            self.place = st.empty()
        self.place.progress(min(done / max(total, 1), 1.0), bars.said(self.text, spent, done, total))

    def end(self) -> None:
        if self.place is not None:
            self.place.empty()
