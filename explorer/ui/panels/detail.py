"""The selected layer: histogram with its handle, controls beside it. Each is a fragment of its own: a drag redraws the histogram alone."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

import streamlit as st

import explorer
from explorer.compress.apply import known_gap
from explorer.compress.plan import Plan
from explorer.core.errors import ExplorerError
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.core.report import Counts, Report
from explorer.evaluate.costs import counts as counts_of
from explorer.evaluate.evaluator import glance
from explorer.models.subject import Subject

from .. import turns, units
from ..components.threshold import threshold
from ..edits import Settings
from ..i18n import _, translated
from ..state import Workspace, user
from . import clipping, controls, handle, ready, scoreboard, sharpen

KEY = "handle"
WHOLE = 0.08  # seconds that all samples may take before a step is drawn: less than drawing the page once more would


@dataclass
class Board:
    """Places above the histogram. Its fragment alone writes the cards and the line below them; ``settling`` is the line that the
    fragment of what settles puts over that one.

    What a fragment writes outside of itself Streamlit wraps into a block of that fragment's own. Another writer at the same place,
    the page's own run included, would have the cards mounted anew, with a blank frame between.
    """

    waiting: Any
    cards: Any
    strip: Any
    settling: Any
    complete: bool = False  # whether it shows every sample
    fresh: bool = True  # not written to yet
    _first: tuple[Any, Any] | None = None  # what this run of the page has written already

    @classmethod
    def draw(cls, model: str) -> Board:
        """The places; what was shown last of this model still stands there, or else what stands there until its first figures are in."""
        if st.session_state.get("board-of") != model:
            st.session_state.pop("board", None)
        st.session_state["board-of"] = model
        with st.container(key="board", gap="xsmall"):
            with st.container(key="cards"):
                waiting, cards = st.empty(), st.container()
            with st.container(key="strips"):
                made = cls(waiting, cards, st.container(), st.container())
        if "board" not in st.session_state:
            waiting.html(scoreboard.skeleton())
        return made

    def begin(self) -> None:
        """At the start of the page's run: what was shown last."""
        self.fresh = False
        if "board" in st.session_state:
            cards, strip = self._last()
            self._first = self.cards.html(cards), self.strip.html(strip)

    def end(self) -> None:
        """After it, outside of the fragment: the first figures are in."""
        self.waiting.empty()

    def show(self, report: Report, original: Counts, gap: float | None = None, live: bool = False) -> None:
        """A report beside what the original consists of; kept, so that the next run of the page starts from it and nothing flickers."""
        st.session_state["board"] = (scoreboard.render(report, original, live), scoreboard.strip(report, gap=gap))
        self.complete = report.complete
        self.again()

    def count(self, counts: Counts, original: Counts, why: str) -> None:
        """What can be counted, where nothing can be measured."""
        st.session_state["board"] = scoreboard.counted(counts, original, translated(why))
        self.complete = True
        self.again()

    def again(self) -> None:
        """What was shown last. A fragment's pass takes away what it does not draw."""
        written = self._first or (self.cards, self.strip)
        self._first = None
        for place, text in zip(written, self._last(), strict=True):
            place.html(text)

    @staticmethod
    def _last() -> tuple[str, str]:
        return st.session_state.get("board") or (scoreboard.skeleton(), scoreboard.strip(None))


def render(space: Workspace, subject: Subject, board: Board) -> None:
    """All of it. The histogram is drawn first, since what it cannot show the others must not offer."""
    busy = st.container(key="busy")  # for bars: what stands below keeps its place while one comes and goes
    plot, beside = st.columns([13, 6], gap="medium")
    with plot:
        head = st.container()
        _drag(space, subject, board, busy)
        board.end()
    with head:
        _heading(space, subject)
    with beside:
        _controls(space, subject)


@st.fragment
def _drag(space: Workspace, subject: Subject, board: Board, busy: Any) -> None:
    """Answer an event of the handle, or draw the present state."""
    with subject.steady():
        _answer(space, subject, board, busy)


def _answer(space: Workspace, subject: Subject, board: Board, busy: Any) -> None:
    layer = subject.layer(space.layer)
    event = _event(space)
    resting = event is not None and bool(event.get("rest"))
    if event is not None and not resting:
        sharpen.stop()
    settings = controls.current(space, subject, layer)
    place = str(layer.group) if settings.granularity == "unit" else layer.name
    with busy, suppress(ExplorerError):  # said below, where the recipe is resolved
        ready.scored(subject, settings.criterion, "unit" if settings.granularity == "unit" else "weight", [place])
    drawn = clipping.identity(space, layer) if space.activations else handle.identity(space, layer, settings)
    if event is not None and event.get("id") == drawn:
        _apply(space, subject, layer, event)
    else:
        space.live = None
    if space.stale:  # one step was made: undo, link, overview and tabs show it too
        st.rerun()
    recipe = space.live or space.history.present
    if space.live is None:  # a bar would move the handle from under the pointer
        with busy:
            ready.levels(subject, recipe)
    problem = ""
    try:
        plan = explorer.resolve(subject, recipe)
    except ExplorerError as error:  # the last good state stays
        problem = error.message
        if space.live is None:
            space.replace(space.history.undo())
            space.message = error.message  # what is drawn next draws the page anew, and this message with it
        space.live = None
        recipe = space.history.present
        plan = explorer.resolve(subject, recipe)
    # Evaluated before anything is drawn: the acknowledgement goes out with the answer, so that never more than one event
    # is in flight, and the component is not unmounted under the pointer while we compute.
    report, problem = _look(subject, recipe, board, problem, space.live is not None, resting)
    settings = controls.current(space, subject, layer)
    counts = report.counts if report is not None else counts_of(subject, plan)
    more = space.live is not None and not board.complete
    problem = _plot(space, subject, layer, settings, recipe, plan, counts, more) or problem
    if problem:
        st.error(translated(problem), icon=":material/error:")


@st.fragment
def _controls(space: Workspace, subject: Subject) -> None:
    """What is beside the histogram; a change there is a step, which the whole page shows."""
    if space.stale:
        st.rerun()
    layer = subject.layer(space.layer)
    controls.render(controls.Scene(space, subject, layer, controls.current(space, subject, layer)))


def _event(space: Workspace) -> dict[str, Any] | None:
    """A value of the handle that was not answered yet."""
    value = (st.session_state.get(KEY) or {}).get("value")
    if not isinstance(value, dict) or int(value.get("seq") or 0) <= space.seq:
        return None
    space.seq = int(value["seq"])
    return value


def _apply(space: Workspace, subject: Subject, layer: Layer, event: dict[str, Any]) -> None:
    settings = controls.current(space, subject, layer)
    if space.activations:
        recipe = clipping.edit(space.history.present, subject, layer, event)
    else:
        recipe = handle.edit(space.history.present, subject, layer, settings, event)
    space.touched = True
    if settings.mode == "scale" and event.get("factor"):
        from dataclasses import replace

        space.chosen = replace(settings, factor=float(event["factor"]))
    if event.get("final"):
        space.commit(recipe)
    else:
        space.live = recipe


def _plot(
    space: Workspace,
    subject: Subject,
    layer: Layer,
    settings: Settings,
    recipe: Recipe,
    plan: Plan,
    counts: Counts,
    more: bool,
) -> str:
    """The histogram of the weights, or of what they multiply; returns why there is none of these. more: samples are left, which a
    hand that rests may ask for."""
    try:
        drawn = handle.data(space, subject, layer, settings, recipe, plan, counts, space.seq)
    except ExplorerError as error:  # weights that are NaN: nothing can be drawn of this layer, and the others can be reached
        return translated(error)
    problem = ""
    if space.activations:
        try:
            drawn = clipping.data(space, subject, layer, recipe, plan, space.seq) | {
                key: drawn[key] for key in ("layers",) if key in drawn
            }
        except ExplorerError as error:
            problem, space.activations = translated(error), False
    threshold(drawn | {"more": more}, key=KEY)
    return problem


@st.fragment
def _heading(space: Workspace, subject: Subject) -> None:
    """What the layer is, and what of it the histogram shows."""
    if space.stale:
        st.rerun()
    layer = subject.layer(space.layer)
    shape = " × ".join(map(str, layer.shape))
    text = f"{shape} · " + _("{n} weights", n=f"{layer.numel:,}")
    group = next((g for g in subject.groups if g.name == layer.group), None)
    if controls.current(space, subject, layer).granularity == "layer":
        around = [g.name for g in subject.blocks if layer.name in g.producers]
        why = subject.depth.refused.get(layer.name, "")
        text += " · " + (
            escape(_("in the removable block {name}", name=", ".join(around))) if around
            else f'<abbr class="x-term" title="{escape(translated(why))}">{escape(_("in no removable block"))}</abbr>'
        )  # fmt: skip
    elif group is None:
        why = subject.structure.refused.get(layer.name, "")
        text += f' · <abbr class="x-term" title="{escape(translated(why))}">{escape(_("no removable units"))}</abbr>'
    else:
        names = {one.name for one in subject.layers}
        others = [name.removesuffix(".weight") for name in group.members if name != layer.name and name in names]
        goes = escape(_("its {n} {units} go with entries of {others}", n=group.units, units=units.many(group.kind), others=", ".join(others)))
        text += " · " + (
            f'<abbr class="x-term" title="{escape("; ".join(map(translated, group.about)))}">{goes}</abbr>' if group.about else goes
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        st.html(f'<div class="x-head">{_named(layer.name)}<span title="{re.sub("<[^>]+>", "", text)}">{text}</span></div>')
        shown = {False: _("weights"), True: _("activations")}
        if subject.task.kind != "weights":  # which has no activations
            st.segmented_control(
                _("Histogram of"), [False, True], default=space.activations, format_func=shown.__getitem__, key=f"what-{space.generation}",
                label_visibility="collapsed", required=True, width="content", on_change=lambda: _switch(space),
            )  # fmt: skip
        st.toggle(_("log counts"), space.log_counts, key=f"log-{space.generation}", width="content", on_change=lambda: _switch(space))


def _named(name: str, tail: int = 34) -> str:
    """A layer's name; of a long one the beginning gives way, since names differ in their ends."""
    lead = len(name) - tail if len(name) > tail + 6 else 0
    return f'<b title="{escape(name)}"><i>{escape(name[:lead])}</i><i>{escape(name[lead:])}</i></b>'


def _switch(space: Workspace) -> None:
    """The histogram, another fragment, is drawn in another way."""
    space.activations = bool(st.session_state.get(f"what-{space.generation}"))
    space.log_counts = bool(st.session_state.get(f"log-{space.generation}"))
    space.live, space.stale = None, True


def _look(
    subject: Subject, recipe: Recipe, board: Board, problem: str, dragging: bool, resting: bool
) -> tuple[Report | None, str]:
    """What is known at once; while the hand rests, what a thread has seen in the meantime."""
    device, who = st.session_state.get("device"), user()
    precision = "fast" if dragging else "full"  # what settles is float32
    original = counts_of(subject, explorer.resolve(subject, Recipe()))
    if subject.task.kind == "weights":
        board.count(counts_of(subject, explorer.resolve(subject, recipe)), original, subject.task.why)
        return None, problem
    try:
        sharper = sharpen.begin(subject, recipe, precision) if dragging and resting else None
        found: Report | None = sharper.latest if sharper is not None else None
        whole = 0.0 if dragging or turns.pages.waiting else WHOLE
        report = found or glance(subject, recipe, device=device, precision=precision, user=who, whole=whole)
        gap = known_gap(subject, explorer.resolve(subject, recipe))
        board.show(report, original, gap, dragging)
    except ExplorerError as error:
        board.again()
        return None, error.message
    return report, problem
