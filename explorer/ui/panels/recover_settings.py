"""What else there is to choose for a training: what is pruned when, a teacher, the optimizer; all with a default that does well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.models.device import devices
from explorer.models.subject import Subject
from explorer.recover.budget import batch_of
from explorer.recover.distillation import ALPHA, LOGITS, TEMPERATURE
from explorer.recover.schedules import registry, schedule_of
from explorer.recover.settings import LR_SCHEDULES, OPTIMIZERS, Settings
from explorer.recover.tensorboard import available

from ..i18n import _, help_for, translated
from . import schedule_form

RATES = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2]
NAMES = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD", "rmsprop": "RMSprop"}  # of the optimizers, as their papers write them
LISTS = ("ModuleList", "ModuleDict")  # hold modules and are never called
MOMENTUM = ("sgd", "rmsprop")  # the optimizers that have one


@dataclass(frozen=True)
class Asked:
    """The choices. minutes: None where epochs are stated. fine: nothing among them is refused."""

    minutes: int | None
    settings: Settings
    schedule: dict[str, Any]
    distil: dict[str, Any]
    board: bool
    fine: bool
    augment: dict[str, Any] = field(default_factory=dict)


def render(subject: Subject, minutes: int | None, epochs: int) -> Asked:
    """Three tabs; a value that is refused is said in the tab that it belongs to."""
    with st.expander(_("More"), icon=":material/tune:", key="recover-more"):
        pruning, teacher, training = st.tabs([_("Pruning"), _("Teacher"), _("Training")], key="recover-tabs")
        with pruning:
            schedule, good = _schedule()
        with teacher:
            distil = _teacher(subject)
        with training:
            settings, fine, board, augment = _training(subject, epochs)
    return Asked(minutes, settings, schedule, distil, board, good and fine, augment)


def _schedule() -> tuple[dict[str, Any], bool]:
    names = list(registry)
    name = st.selectbox(
        _("What is pruned when"), names, index=names.index("one-shot"), key="recover-schedule",
        format_func=lambda name: _(registry[name].title),
    )  # fmt: skip
    text = help_for("schedule", name, registry.help(name))
    st.caption(text.split("\n\n")[0], help=text.replace("``", "`"))
    chosen = {"name": name, **schedule_form.render(name)}
    try:
        schedule_of(chosen)
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return {"name": name}, False
    return chosen, True


def _teacher(subject: Subject) -> dict[str, Any]:
    if not st.toggle(
        _("Learn from the original (distillation)"), key="recover-distil", help=help_for("term", "distillation", "")
    ):
        return {}
    if subject.task.loss is None:
        st.caption(_("The task has no loss of its own, so the teacher alone is learned from."))
        alpha = 1.0
    else:
        alpha = st.slider(_("Share of the teacher's loss, α"), 0.0, 1.0, ALPHA, 0.05, key="recover-alpha")
    found: dict[str, Any] = {"alpha": alpha}
    if subject.task.kind in LOGITS:  # other outputs are compared as they are
        found["temperature"] = st.slider(
            _("Temperature T"), 1.0, 10.0, TEMPERATURE, 0.5, key="recover-temperature",
            help=_("Softens both models' answers: softmax(z / T). The higher, the more is learned from what the teacher thinks of the wrong classes."),
        )  # fmt: skip
    features = st.multiselect(
        _("Hidden features to follow, too"), hidden(subject), key=f"recover-features-{subject.name}", placeholder=_("none"),
        help=_("Layers whose outputs are drawn towards the teacher's by their mean squared difference (Romero et al. 2015, FitNets); units that were removed are left out."),
    )  # fmt: skip
    if features:
        found["features"] = features
        found["beta"] = st.slider(_("Weight of the hidden features, β"), 0.1, 10.0, 1.0, 0.1, key="recover-beta")
    return found


def hidden(subject: Subject) -> list[str]:
    """Modules whose outputs can be followed: those with weights, and what holds them, in the model's order."""
    owners = {layer.name.rpartition(".")[0] for layer in subject.layers}
    around = {name[:at] for name in owners for at in range(len(name) + 1) if at == len(name) or name[at] == "."}
    return [name for name, one in subject.module.named_modules() if name and name in around and type(one).__name__ not in LISTS]


def _training(subject: Subject, epochs: int) -> tuple[Settings, bool, bool, dict[str, Any]]:
    optimizer = st.selectbox(_("Optimizer"), list(OPTIMIZERS), format_func=lambda name: NAMES.get(name, name), key="recover-optimizer")
    rate = st.select_slider(
        _("Learning rate"),
        RATES,
        value=OPTIMIZERS[optimizer],
        format_func=lambda r: f"{r:g}",
        key=f"recover-lr-{optimizer}",
    )
    over = st.selectbox(
        _("Learning rate over time"), LR_SCHEDULES, key="recover-lr-schedule",
        format_func={"cosine": _("cosine, to zero"), "linear": _("linear, to zero"), "constant": _("constant"), "one-cycle": _("one cycle: up, then cosine")}.__getitem__,
    )  # fmt: skip
    found: dict[str, Any] = {"epochs": epochs, "optimizer": optimizer, "lr": float(rate), "lr_schedule": over}
    usual = batch_of(Settings().batch, len(subject.task.splits.get("train", ())))
    left, right = st.columns(2)
    with left:
        found["batch"] = _number(_("Batch size"), f"batch-{usual}", usual, None)
        found["weight_decay"] = _number(
            _("Weight decay"), "decay", 0.0, _("Draws weights towards zero in each step; not biases and norms."), 0.01
        )
        if over != "one-cycle":
            found["warmup"] = _number(
                _("Warm-up"),
                "warmup",
                0.0,
                _("Share of all steps over which the learning rate rises to its value."),
                0.05,
            )
        if optimizer in MOMENTUM:
            found["momentum"] = _number(_("Momentum"), "momentum", 0.9, None, 0.05)
    with right:
        found["patience"] = _number(
            _("Patience"),
            "patience",
            None,
            _("Epochs without a better validation score after which it stops; empty: never."),
        )
        found["clip"] = _number(
            _("Clipping"),
            "clip",
            None,
            _("Largest norm of the gradient; empty: 1 for recurrent models, none for others; 0: never."),
            0.5,
        )
        found["seed"] = _number(_("Seed"), "seed", 0, None)
    where = st.session_state.get("device") or devices()[0]
    if where.startswith("cuda") and st.toggle(
        _("Mixed precision"),
        key="recover-mixed",
        help=_("bfloat16 within a step, the weights in float32: faster on a GPU."),
    ):
        found["precision"] = "mixed"
    found["regrow"] = st.toggle(
        _("Let pruned weights grow back"),
        key="recover-regrow",
        help=_("Not held at zero while training: to see why one holds them."),
    )
    augment = _augment() if subject.task.display == "image" else {}
    board = st.toggle(
        _("Write TensorBoard files"), key="recover-board", disabled=not available(),
        help=None if available() else _("Needs TensorBoard's writer: pip install tensorboard"),
    )  # fmt: skip
    try:
        return Settings(**found), True, board, augment
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return Settings(epochs=epochs, batch=usual), False, board, augment


def _augment() -> dict[str, Any]:
    """How images are changed each time they are seen."""
    found: dict[str, Any] = {}
    if st.toggle(
        _("Vary the images (augmentation)"), key="recover-augment",
        help=_("Each image is shifted a little at random whenever it is seen, so less is learned by heart (He et al. 2016). Longer trainings gain more from it."),
    ):  # fmt: skip
        left, right = st.columns(2, vertical_alignment="bottom")
        with left:
            found["pixels"] = int(st.number_input(_("Shift by up to, pixels"), 0, 16, 2, 1, key="recover-pixels"))
        with right:
            found["flip"] = st.toggle(_("mirror, too"), True, key="recover-flip", help=_("Left to right, every second image; not for digits or letters."))
    return found


def _number(label: str, key: str, value: float | None, said: str | None, step: float = 1) -> Any:
    whole = isinstance(step, int)
    return st.number_input(
        label, value=value, step=step, format="%d" if whole else "%g", key=f"recover-{key}", help=said
    )
