"""How to recover: the repair of seconds, a training that fits a time, and what else there is to choose."""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
from typing import Any

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.core.message import say
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from explorer.models.subject import Subject
from explorer.recover.budget import batch_of, within
from explorer.recover.jobs import Job, jobs
from explorer.recover.orders import Order
from explorer.recover.schedules import registry
from explorer.recover.settings import OPTIMIZERS, Settings
from explorer.recover.tensorboard import available

from .. import format as fmt
from ..i18n import _, help_for, translated
from ..owner import owner
from ..state import Workspace

MINUTES = (1, 5, 20)


@dataclass(frozen=True)
class Asked:
    """The choices. minutes: None where epochs are stated."""

    minutes: int | None
    settings: Settings
    schedule: dict[str, Any]
    distil: dict[str, Any]
    board: bool


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
    asked = _choices(subject)
    start = st.button(
        _("Recover in {n} min", n=asked.minutes) if asked.minutes else _("Retrain"), icon=":material/play_arrow:", type="primary",
        key="retrain", disabled=bool(why),
    )  # fmt: skip
    if why:
        st.info(translated(why), icon=":material/info:")
    if start:
        what = "distillation" if asked.distil else "fine-tuning"
        order = Order(what, subject, recipe, asked.settings, asked.schedule, asked.distil, device)
        if asked.minutes is None:
            _submit(order, asked.board)
            return
        with st.spinner(_("Timing a few steps …")):
            try:
                settings, _expected = within(60.0 * asked.minutes, subject, recipe, asked.settings, **order.how())
            except ExplorerError as error:
                st.error(translated(error), icon=":material/error:")
                return
        _submit(Order(what, subject, recipe, settings, asked.schedule, asked.distil, device), asked.board)


def impossible(subject: Subject, recipe: Recipe) -> str:
    """Why nothing can be learned here, or ""."""
    if subject.task.kind == "weights" or "train" not in subject.task.splits:
        return say("There is no train split to learn from. Accepted: a task with train=, or data with its own split.")
    if not recipe.rules:
        return say("Nothing is damaged yet: prune or quantize on the page Explore, then come back.")
    return ""


def _choices(subject: Subject) -> Asked:
    labels = {**{n: _("{n} min", n=n) for n in MINUTES}, 0: _("epochs")}
    time = st.segmented_control(
        _("How long"), [*MINUTES, 0], default=1, required=True, format_func=labels.__getitem__, key="recover-time",
        help=_("A few steps are timed on this machine; as many epochs follow as fit. Epochs: the same on every machine."),
    )  # fmt: skip
    epochs = int(st.number_input(_("Epochs"), 1, 1000, 5, key="recover-epochs")) if not time else 1
    with st.expander(_("More"), icon=":material/tune:", key="recover-more"):
        names = list(registry)
        schedule = st.selectbox(
            _("What is pruned when"), names, index=names.index("one-shot"), key="recover-schedule",
            format_func=lambda name: _(registry[name].title),
        )  # fmt: skip
        st.caption(help_for("schedule", schedule, registry[schedule].__doc__ or "").split("\n\n")[0])
        teach = st.toggle(
            _("Learn from the original (distillation)"), key="recover-distil", help=help_for("term", "distillation", "")
        )
        distil: dict[str, Any] = {}
        if teach:
            distil["alpha"] = st.slider(_("Share of the teacher's loss, α"), 0.0, 1.0, 0.7, 0.05, key="recover-alpha")
            distil["temperature"] = st.slider(_("Temperature T"), 1.0, 10.0, 3.0, 0.5, key="recover-temperature")
        optimizer = st.selectbox(_("Optimizer"), list(OPTIMIZERS), key="recover-optimizer")
        rate = st.select_slider(
            _("Learning rate"), [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2], value=OPTIMIZERS[optimizer],
            format_func=lambda r: f"{r:g}", key=f"recover-lr-{optimizer}",
        )  # fmt: skip
        regrow = st.toggle(
            _("Let pruned weights grow back"), key="recover-regrow",
            help=_("Not held at zero while training: to see why one holds them."),
        )  # fmt: skip
        seed = int(st.number_input(_("Seed"), 0, 10**6, 0, key="recover-seed"))
        board = st.toggle(
            _("Write TensorBoard files"), key="recover-board", disabled=not available(),
            help=None if available() else _("Needs TensorBoard's writer: pip install tensorboard"),
        )  # fmt: skip
    batch = batch_of(Settings().batch, len(subject.task.splits.get("train", ())))
    settings = Settings(epochs=epochs, batch=batch, optimizer=optimizer, lr=float(rate), regrow=regrow, seed=seed)
    chosen = {one.name: one.default for one in fields(registry[schedule])}  # type: ignore[arg-type]
    return Asked(time or None, settings, {"name": schedule, **chosen}, distil, board)


def _submit(order: Order, board: bool = False) -> None:
    try:
        job = jobs().submit(owner(), order, board)
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return
    st.session_state["recover-job"] = job.id
    st.rerun()
