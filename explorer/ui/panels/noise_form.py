"""No data at all: noise to run the model on, and the warning that goes with it."""

from __future__ import annotations

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.files.noise import WARNING, Kind, Noise, noise_task
from explorer.files.parts import Wanted, wanted
from explorer.models.subject import Subject
from explorer.models.task import Task

from ..i18n import _, translated
from .data_form import numbers

KINDS: tuple[Kind, ...] = ("normal", "tokens", "ones", "false")
INDICES = ("ids", "idx", "tokens", "indices")


def task(subject: Subject) -> Task | None:
    """What the form describes; None while it is not filled in."""
    st.warning(translated(WARNING) + ".", icon=":material/warning:")
    inputs = wanted(subject.module)
    chosen: tuple[Wanted | None, ...] = inputs or (None,)
    if len(inputs) > 1:
        usual = [one.name for one in inputs if one.needed] or [inputs[0].name]
        names = st.multiselect(_("Inputs of the model"), [one.name for one in inputs], usual, key="noise-inputs")
        chosen = tuple(one for one in inputs if one.name in names)
    try:
        found = {one.name if one else "": _input(one, len(inputs) > 1) for one in chosen}
        made = {name: one for name, one in found.items() if one is not None}
        if not made or len(made) < len(found):
            st.caption(_("The shape of one sample of each input, without the batch."))
            return None
        given = made if len(inputs) > 1 else next(iter(made.values()))
        return noise_task(given, module=subject.module)
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return None


def _input(one: Wanted | None, several: bool) -> Noise | None:
    """The row of one input; None without a shape."""
    key = f"-{one.name}" if one is not None and several else ""
    known = "" if one is None or not one.shape or None in one.shape else " × ".join(map(str, one.shape))
    sizes = " × ".join("?" if n is None else str(n) for n in one.shape) if one is not None and one.shape else "3 × 32 × 32"
    names = {"normal": _("normal noise"), "tokens": _("random tokens"), "ones": _("ones: nothing masked"), "false": _("False: nothing masked")}
    a, b, c = st.columns(3)
    label = _("Shape of a sample of {name}", name=one.name) if key and one is not None else _("Shape of a sample")
    shape = a.text_input(label, known, placeholder=sizes, key=f"noise-shape{key}")
    kind = b.selectbox(_("Values"), KINDS, KINDS.index(_usual(one)), format_func=names.__getitem__, key=f"noise-kind{key}")
    size = c.number_input(
        _("Vocabulary"), 1, 1_000_000, None, disabled=kind != "tokens", key=f"noise-vocabulary{key}", placeholder=_("as the model's table"),
    )  # fmt: skip
    if not shape.strip():
        return None
    return Noise(numbers(shape, whole=True), kind, int(size) if kind == "tokens" and size else None)


def _usual(one: Wanted | None) -> Kind:
    """What an input probably takes, by its type and name."""
    if one is None:
        return "normal"
    if "mask" in one.name.lower():
        return "ones"
    return "tokens" if one.dtype == "int64" or one.name.lower().endswith(INDICES) else "normal"
