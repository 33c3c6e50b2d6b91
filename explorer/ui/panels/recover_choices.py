"""How to recover: the repair of seconds, and a training that fits a time."""

from __future__ import annotations

from html import escape

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.core.message import say
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from explorer.models.subject import Subject
from explorer.recover.budget import within
from explorer.recover.jobs import Job, jobs
from explorer.recover.orders import Order

from .. import format as fmt
from .. import recovered
from ..i18n import _, help_for, translated
from ..owner import owner
from ..state import Workspace
from . import recover_settings
from .recover_settings import Asked

MINUTES = (1, 5, 20)


def headline(space: Workspace, subject: Subject) -> str:
    """Which model, and what is done to it."""
    import explorer

    recipe = space.history.present
    if not recipe.rules:
        return f"{escape(subject.name)} · {escape(_('nothing is pruned or quantized yet'))}"
    found = counts(subject, explorer.resolve(subject, recipe))
    said = _("{sparsity} sparse, {size}", sparsity=fmt.percent(found.sparsity), size=fmt.size(found.bytes))
    return f"{escape(subject.name)} · {escape(recipe.name + ', ' if recipe.name else '')}{escape(said)}"


def render(space: Workspace, subject: Subject, mine: list[Job]) -> None:
    """Two steps, each with its button; an error stands beside the button that it belongs to."""
    recipe, device = space.history.present, st.session_state.get("device")
    why = impossible(subject, recipe)
    st.markdown(f"**{_('In seconds')}**", help=help_for("term", "recalibration", ""))
    st.caption(_("Re-estimates what the cut has shifted, on training inputs; without labels or gradients."))
    if st.button(_("Recalibrate"), icon=":material/healing:", key="recalibrate", disabled=bool(why)):
        _submit(Order("recalibration", subject, recipe, device=device))
    st.markdown(f"**{_('Retrain')}**", help=help_for("term", "fine-tuning", ""))
    minutes, epochs = _time()
    place = st.container()  # the button stays where it is when more is unfolded
    asked = recover_settings.render(subject, minutes, epochs)
    start = place.button(
        _("Recover in {n} min", n=minutes) if minutes else _("Retrain"), icon=":material/play_arrow:", type="primary",
        key="retrain", disabled=bool(why) or not asked.fine,
    )  # fmt: skip
    with place:
        if why:
            st.info(translated(why), icon=":material/info:")
        if start:
            _start(asked, subject, recipe, device)


def _start(asked: Asked, subject: Subject, recipe: Recipe, device: str | None) -> None:
    what, settings = "distillation" if asked.distil else "fine-tuning", asked.settings
    if asked.minutes is not None:
        how = Order(what, subject, recipe, settings, asked.schedule, asked.distil, device, asked.augment).how()
        with st.spinner(_("Timing a few steps …")):
            try:
                settings, _expected = within(60.0 * asked.minutes, subject, recipe, settings, **how)
            except ExplorerError as error:
                st.error(translated(error), icon=":material/error:")
                return
    _submit(Order(what, subject, recipe, settings, asked.schedule, asked.distil, device, asked.augment), asked.board)


def impossible(subject: Subject, recipe: Recipe) -> str:
    """Why nothing can be learned here, or ""."""
    if subject.task.kind == "weights" or "train" not in subject.task.splits:
        return say("There is no train split to learn from. Accepted: a task with train=, or data with its own split.")
    if not recipe.rules:
        return say("Nothing is damaged yet: prune or quantize on the page Explore, then come back.")
    return ""


def _time() -> tuple[int | None, int]:
    """(minutes, epochs): one of them is what was chosen."""
    labels = {**{n: _("{n} min", n=n) for n in MINUTES}, 0: _("epochs")}
    time = st.segmented_control(
        _("How long"), [*MINUTES, 0], default=1, required=True, format_func=labels.__getitem__, key="recover-time",
        help=_("A few steps are timed on this machine; as many epochs follow as fit. Epochs: the same on every machine."),
    )  # fmt: skip
    if time:
        return time, 1
    return None, int(st.number_input(_("Epochs"), 1, 1000, 5, key="recover-epochs"))


def _submit(order: Order, board: bool = False) -> None:
    try:
        job = jobs().submit(owner(), order, board, recovered.session(order.subject))
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return
    st.session_state["recover-job"] = job.id
    st.rerun()
