"""Before, damaged, recovered, side by side; what it cost; and the button that takes the model over."""

from __future__ import annotations

from typing import Any

import streamlit as st

import explorer
from explorer.core.recipe import Recipe
from explorer.core.report import Figure, Report
from explorer.evaluate.costs import counts
from explorer.figures.per_class import per_class
from explorer.models.subject import Subject
from explorer.recover.jobs import CANCELLED, DONE, Job
from explorer.recover.keeping import DISK, KEPT

from .. import counted, links, models, recovered, state, style
from .. import format as fmt
from ..i18n import _
from ..state import Workspace
from . import recover_compare
from .scoreboard import Card, kind_name, metric_name, moved, split_name
from .scoreboard import board as cards

TICK = 1.0  # seconds between two drawings


def board(subject: Subject, recipe: Recipe, job: Job | None) -> float | None:
    """Five cards: the three states' main metric, the size, the cost; drawn again while a job runs. Returns the original's metric."""
    if "validation" not in subject.task.splits:
        return None
    how: dict[str, Any] = {"device": st.session_state.get("device"), "user": state.user()}
    original = explorer.evaluate(subject, Recipe(), **how)
    damaged = explorer.evaluate(subject, recipe, **how) if recipe.rules else original
    st.fragment(_board, run_every=None if job is None or job.over else TICK)(subject, original, damaged, job)
    return original.figure(original.main).value


def _board(subject: Subject, original: Report, damaged: Report, job: Job | None) -> None:
    metric = original.main
    made = [_card("original", _("Original"), metric, original.figure(metric), None, subject)]
    made.append(_card("damaged", _("Damaged"), metric, damaged.figure(metric), damaged.change(metric) if damaged.recipe.rules else None, subject))
    made.append(_recovered(subject, original, job))
    whole, size = (counts(subject, explorer.resolve(subject, one.recipe)).bytes for one in (original, damaged))
    if job is not None and (result := job.result) is not None:
        size = counts(result, explorer.resolve(result, result.recipe)).bytes
    smaller = _("{times} smaller", times=fmt.times(whole, size)) if size < whole else _("as it was")
    made.append(Card("size", _("Size"), fmt.size(size), kind_name("counted"), (("", smaller),)))
    made.append(_cost(job))
    st.html(cards(made, original.n, original.complete))


def _recovered(subject: Subject, original: Report, job: Job | None) -> Card:
    """The result against the original, sample by sample; while it is trained, the best epoch, of whose change nobody knows yet how
    much is chance."""
    metric, name = original.main, _("Recovered")
    if job is not None and (result := job.result) is not None:
        found = recover_compare.against(subject, result, f"{subject.digest}-{job.id}")
        return _card("recovered", name, metric, found.after[metric], found.changes[metric], subject)
    best = [one.figure for one in job.curve if one.best and one.epoch] if job is not None else []
    if best:
        note = (("", fmt.change(metric, best[-1].value - original.figure(metric).value)), ("", "· " + _("best so far")))
        return Card("recovered", name, fmt.metric(metric, best[-1].value), kind_name(best[-1].kind), note)
    why = _("not opened yet") if job is not None and job.state in (DONE, CANCELLED) and job.made else _("not yet")
    return Card("recovered", name, "–", kind_name("measured"), (("", why),))


def _card(term: str, name: str, metric: str, seen: Figure, change: Figure | None, subject: Subject) -> Card:
    where = f"{split_name(seen.split or 'validation')}, n = {seen.n:,}"
    if change is None:
        half = fmt.half_width(metric, seen.low, seen.high)  # of the value, not of the change
        note = [("", " ".join(filter(None, (metric_name(metric), half, "·"))))]
    else:
        half = fmt.half_width(metric, change.low, change.high)
        note = [moved(metric, change, metric in subject.task.lower_is_better), ("", " ".join(filter(None, (half, "·"))))]
    return Card(term, name, fmt.metric(metric, seen.value), kind_name(seen.kind), (*note, ("x-seen", where)))


def _cost(job: Job | None) -> Card:
    """Time, epochs, passes over the validation split, and energy where it was measured; so far, while it goes on."""
    result = job.result if job is not None else None
    if job is None or (result is None and not job.curve):
        return Card("cost", _("Cost"), "–", kind_name("measured"), (("", _("of the recovery")),))
    if result is None:
        last = job.curve[-1]
        seconds = job.steps[-1].seconds if job.steps else last.seconds
        return Card(
            "cost",
            _("Cost"),
            fmt.duration(seconds),
            kind_name("measured"),
            (("", counted.epochs(last.epoch)),),
        )
    entry = result.history[-1]
    note = [counted.epochs(entry.epochs)] if entry.epochs else []
    note.append(counted.evaluations(entry.evaluations))
    if entry.energy is not None:
        note.append(f"{fmt.significant(entry.energy)} J")
    return Card("cost", _("Cost"), fmt.duration(entry.seconds), kind_name("measured"), (("", " · ".join(note)),))


def render(space: Workspace, subject: Subject, job: Job | None) -> None:
    """Recall by class in the three states, and the way back to Explore."""
    if job is None or job.state not in (DONE, CANCELLED):
        return
    result = job.result  # which may leave the memory at any time
    if result is None and not job.made:  # cancelled before its first step
        return
    if job.sessions is not None:
        st.caption(
            _(
                "It began with a file of your own: that is gone with this session, and the result with it, so export what you want to keep. Its "
                "checkpoint stays on the server for this browser alone, up to {kept} jobs or {size}, until you remove it; it opens again with the same file.",
                kept=KEPT,
                size=fmt.size(DISK),
            )
        )
    if result is None:
        if st.button(_("Open the result"), icon=":material/folder_open:", key=f"open-{job.id}"):
            with st.spinner(_("Opening {model} …", model=str(job.told["subject"]))):
                recovered.result(job)
            st.rerun()
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(_("Use this model"), icon=":material/check:", type="primary", key=f"use-{job.id}"):
            taken = state.show(models.keep_once(result), result.recipe)
            taken.keep_to(result.layers)
            links.turn("explore", taken)
        st.caption(_("It becomes the model in Explore; the original stays one click away."))
    recover_compare.render(subject, job)
    recipe = Recipe.from_json(str(job.told["recipe"]))
    how: dict[str, Any] = {"device": st.session_state.get("device"), "user": state.user()}
    damaged = explorer.evaluate(subject, recipe, **how).per_class if job.told["digest"] == subject.digest else {}
    if damaged:
        after = explorer.evaluate(result, Recipe(), **how).per_class
        scores = {name: _joined(damaged[name], after[name].recall) for name in damaged}
        st.caption(_("Recall per class. Grey: original, ring: damaged, blue: recovered."))
        figure = per_class(scores, style.colours(), _("original"), _("recovered"), (_("damaged"), damaged))
        st.plotly_chart(figure, key=f"classes-{job.id}", config={"displayModeBar": False})


def _joined(score, recall: float):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(score, recall=recall)
