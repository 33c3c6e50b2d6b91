"""The form that maps the columns of a data file to what the model takes, and a look at what comes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from explorer.core.errors import ExplorerError, TaskError
from explorer.core.message import say
from explorer.evaluate.answers import label, show
from explorer.files.data import Source
from explorer.files.mapping import KINDS, TYPES, Mapping
from explorer.files.propose import propose
from explorer.files.sanity import check
from explorer.models.subject import Subject

from .. import format as fmt
from ..i18n import _, translated
from .scoreboard import metric_name
from .tiles import tile

EXAMPLES = 10


def mapping(source: Source, digest: str, reader: Any = None) -> Mapping:
    """The form: what the columns are to the model. reader: of a model that has a tokenizer."""
    guess, names, k = propose(source, reader), list(source.columns), digest[:8]
    labels = {
        "classification": _("classes"), "regression": _("numbers"), "language_model": _("the next token"),
        "tokens": _("a class for each word"), "agreement": _("no labels: agreement with the original"),
    }  # fmt: skip
    kinds = [kind for kind in KINDS if kind != "tokens" or reader is not None and reader.head == "tokens"]
    a, b, c = st.columns(3)
    inputs = a.multiselect(_("Inputs"), names, default=list(guess.inputs)[:200], key=f"map-in-{k}")
    kind = b.selectbox(_("Target is"), kinds, kinds.index(guess.kind), format_func=labels.__getitem__, key=f"map-kind-{k}")
    none = kind in ("agreement", "language_model")
    target = c.selectbox(_("Target"), names, names.index(guess.target) if guess.target else len(names) - 1, disabled=none, key=f"map-target-{k}")
    more = _text(guess, inputs, source, reader, k) if reader is not None or _written(source, inputs) else _numbers(guess, source, k)
    a, b, c = st.columns(3)
    validation = a.number_input(_("Validation share"), 0.01, 0.99, 0.2, key=f"map-val-{k}")
    test = b.number_input(_("Test share"), 0.0, 0.9, 0.2, key=f"map-test-{k}")
    seed = c.number_input(_("Seed of the split"), 0, 2**31 - 1, 0, key=f"map-seed-{k}")
    return replace(
        guess, inputs=tuple(inputs), target=None if none else target, kind=kind, validation=validation, test=test, seed=int(seed), **more
    )


def _written(source: Source, inputs: list[str]) -> bool:
    return source.kind != "images" and bool(inputs) and all(source.columns[name].dtype.kind in "USO" for name in inputs)


def _text(guess: Mapping, inputs: list[str], source: Source, reader: Any, k: str) -> dict[str, Any]:
    """How long a text may be, and what reads it."""
    if not _written(source, inputs):
        st.caption(_("Token indices, as the model takes them."))
        return {"dtype": "int64"}
    a, b = st.columns([1, 2], vertical_alignment="bottom")
    longest = reader.longest if reader is not None else 4096
    help_text = _("Longer texts are cut, shorter ones filled up.")
    length = a.number_input(_("Length of a sample"), 1, longest, min(guess.length, longest), key=f"map-length-{k}", help=help_text)
    b.caption(_("Tokens of the model's own tokenizer.") if reader is not None else _("Bytes of the text as UTF-8; 0 fills up."))
    return {"length": int(length), "dtype": "int64", "shape": ()}


def _numbers(guess: Mapping, source: Source, k: str) -> dict[str, Any]:
    """Shape, type and scale."""
    a, b, c, d, e = st.columns(5)
    shape = a.text_input(_("Shape of a sample"), " × ".join(map(str, guess.shape)), placeholder="1 × 28 × 28", key=f"map-shape-{k}")
    dtype = b.selectbox(_("Type"), list(TYPES), list(TYPES).index(guess.dtype), key=f"map-type-{k}")
    scale = c.text_input(_("Times"), "1/255" if guess.scale != 1 else "1", key=f"map-scale-{k}", help=_("x → (x · times − mean) / std"))
    mean = d.text_input(_("Mean"), "0", key=f"map-mean-{k}", help=_("one number, or one a channel"))
    std = e.text_input(_("Std"), "1", key=f"map-std-{k}", help=_("one number, or one a channel"))
    return {"shape": numbers(shape, whole=True), "dtype": dtype, "scale": numbers(scale)[0], "mean": numbers(mean), "std": numbers(std)}


def numbers(text: str, whole: bool = False) -> tuple:
    """Numbers of a field: "0.5, 0.25", "1/255", "3 × 32 × 32". Raises :class:`TaskError`."""
    out = []
    for part in text.replace("×", " ").replace("x", " ").replace(",", " ").replace("，", " ").replace("(", " ").replace(")", " ").split():
        top, slash, bottom = part.partition("/")
        try:
            value = float(top) / float(bottom) if slash else float(top)
        except (ValueError, ZeroDivisionError):
            raise TaskError(say("{text!r} is no number; accepted: numbers, with commas between them", text=part[:40])) from None
        if whole and (value != int(value) or not 0 < value < 1e6):
            raise TaskError(say("{text!r}; accepted: whole numbers above 0", text=part[:40]))
        out.append(int(value) if whole else value)
    if not whole and not out:
        raise TaskError(say("an empty field; accepted: a number"))
    return tuple(out)


def looks(subject: Subject) -> bool:
    """Ten examples as the model sees them, and the check; whether the model can take the data."""
    try:
        n = min(EXAMPLES, len(subject.task.dataset("validation")))
        shown = [show(subject, "validation", i) for i in range(n)]
        told = subject.task.kind in ("classification", "regression")
        pieces = [tile(s, [("", label(subject, s.target) if told else "")], "", subject.task.labels) for s in shown]
        shape = _shape(subject.task.dataset("validation")[0][0])
        st.caption(_("The first {n} of the validation split as the model sees them, each {shape}", n=n, shape=shape))
        st.html(f'<div class="x-tiles">{"".join(pieces)}</div>')
        found = check(subject, st.session_state.get("device"))
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
        return False
    figure = found.figure
    st.markdown(
        _("The original: **{metric} {value}**, measured on {n} samples of {split}", metric=metric_name(found.metric), value=fmt.metric(found.metric, figure.value), n=figure.n, split=figure.split or "")
    )
    if found.balance:
        st.caption(_("Samples by class") + ": " + " · ".join(f"{name}: {count}" for name, count in list(found.balance.items())[:30]))
    for hint in found.hints:
        st.warning(translated(hint), icon=":material/help:")
    return True


def _shape(inputs: Any) -> str:
    """The shape of a sample, or of its parts by name."""
    if isinstance(inputs, dict):
        return ", ".join(f"{name} {_shape(one)}" for name, one in inputs.items())
    return " × ".join(map(str, getattr(inputs, "shape", ())))
