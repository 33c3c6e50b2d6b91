"""A schedule's own settings, made from its dataclass: a control a field, its help the sentences of the docstring that name it."""

from __future__ import annotations

import math
import re
import types
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import streamlit as st

from explorer.recover.schedules import Schedule, registry

from ..i18n import help_for, label_for

SENTENCE = re.compile(r"(?<=[.;:])\s+(?=[A-Z`])|(?<=[。；])")


def render(name: str) -> dict[str, Any]:
    """{setting: value} as chosen; not checked here: the schedule does that when it is made, in its own words."""
    made: type[Schedule] = registry[name]
    text = help_for("schedule", name, registry.help(name))
    hints, found = get_type_hints(made), {}
    columns = st.columns(2)
    for index, one in enumerate(fields(made)):  # type: ignore[arg-type]
        with columns[index % 2]:
            found[one.name] = _control(
                made, one.name, hints[one.name], one.default, f"schedule-{name}-{one.name}", about(text, one.name)
            )
    return found


def about(text: str, setting: str) -> str | None:
    """The sentences of a docstring that name ``setting``."""
    found = [one.strip() for one in SENTENCE.split(" ".join(text.split())) if f"``{setting}``" in one]
    return " ".join(found).replace("``", "`") or None


def _control(made: type[Schedule], name: str, hint: Any, default: Any, key: str, said: str | None) -> Any:
    """A control for a value of that type: bool, int, float, a Literal, or one of these or None, which an empty field stands for."""
    kinds = (
        [one for one in get_args(hint) if one is not type(None)]
        if get_origin(hint) in (Union, types.UnionType)
        else [hint]
    )
    optional, kind, label = kinds != [hint], kinds[0], label_for(made.labels, name)
    if get_origin(kind) is Literal:
        choices = [*([None] if optional else []), *get_args(kind)]
        return st.selectbox(label, choices, choices.index(default), format_func=lambda one: label_for(made.labels, str(one)), key=key, help=said)
    if kind is bool:
        return st.toggle(label, default, key=key, help=said)
    if kind is str:
        return st.text_input(label, default or "", key=key, help=said)
    whole = kind is int
    step, form = (1, "%d") if whole else (step_of(default), "%e" if default and abs(default) < 1e-3 else "%g")
    if not optional:
        return st.number_input(label, value=kind(default), step=step, format=form, key=key, help=said)
    if key not in st.session_state:
        st.session_state[key] = default  # value=None is what lets a field be emptied
    return st.number_input(label, value=None, step=step, format=form, key=key, help=said, placeholder="–")


def step_of(default: float | None) -> float:
    """What one click changes: a unit of the default's first digit."""
    return 10.0 ** math.floor(math.log10(abs(default))) if default else 0.05
