"""The form that maps the columns of a data file to what the model takes, and a look at what comes of it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from explorer.core.errors import ExplorerError, TaskError
from explorer.core.message import say
from explorer.evaluate.answers import label, show
from explorer.files.data import Source
from explorer.files.mapping import KINDS, TYPES, Mapping
from explorer.files.parts import Wanted, propose_parts
from explorer.files.propose import looks_like, propose
from explorer.files.sanity import check
from explorer.files.showing import values
from explorer.models.subject import Subject

from .. import format as fmt
from ..i18n import _, translated
from . import saved_mapping
from .scoreboard import metric_name
from .tiles import picture, tile

EXAMPLES = 10
SMALL = 16  # values of an input that is written below a picture


def mapping(source: Source, digest: str, reader: Any = None, inputs: Sequence[Wanted] = ()) -> Mapping:
    """The form: what the columns are to the model. reader: of a model that has a tokenizer. inputs: what the model's forward takes."""
    saved = saved_mapping.chosen(source, digest, inputs)
    names, k = list(source.columns), digest[:8] + saved_mapping.mark(digest)
    guess = saved or propose(source, reader)
    several = reader is None and len(inputs) > 1 and _several(guess, inputs, k)
    if several and not guess.parts:
        guess = propose_parts(source, inputs, guess)
    labels = {
        "classification": _("classes"), "regression": _("numbers"), "language_model": _("the next token"),
        "tokens": _("a class for each word"), "agreement": _("no labels: agreement with the original"),
    }  # fmt: skip
    kinds = [kind for kind in KINDS if kind != "tokens" or reader is not None and reader.head == "tokens"]
    a, b, c = (None, *st.columns(2)) if several else st.columns(3)
    chosen = [] if a is None else a.multiselect(_("Inputs"), names, default=list(guess.inputs)[:200], key=f"map-in-{k}")
    kind = b.selectbox(_("Target is"), kinds, kinds.index(guess.kind) if guess.kind in kinds else 0, format_func=labels.__getitem__, key=f"map-kind-{k}")
    none = kind in ("agreement", "language_model")
    target = c.selectbox(_("Target"), names, names.index(guess.target) if guess.target else len(names) - 1, disabled=none, key=f"map-target-{k}")
    more = {"parts": _parts(guess, source, inputs, k)} if several else _columns(guess, source, reader, chosen, k) | {"parts": ()}
    a, b, c = st.columns(3)
    validation = a.number_input(_("Validation share"), 0.01, 0.99, min(max(guess.validation, 0.01), 0.99), key=f"map-val-{k}")
    test = b.number_input(_("Test share"), 0.0, 0.9, min(max(guess.test, 0.0), 0.9), key=f"map-test-{k}")
    seed = c.number_input(_("Seed of the split"), 0, 2**31 - 1, guess.seed, key=f"map-seed-{k}")
    made = replace(
        guess, inputs=tuple(chosen), target=None if none else target, kind=kind, validation=validation, test=test, seed=int(seed), **more
    )
    saved_mapping.keep(made, digest)
    return made


def _several(guess: Mapping, inputs: Sequence[Wanted], k: str) -> bool:
    names = ", ".join(one.name for one in inputs)
    apart = bool(guess.parts) or sum(one.needed for one in inputs) > 1
    return st.toggle(_("Each input of the model by itself: {names}", names=names), apart, key=f"map-several-{k}")


def _parts(guess: Mapping, source: Source, inputs: Sequence[Wanted], k: str) -> tuple[tuple[str, Mapping], ...]:
    """A box for each input of the model, with columns, shape, type and scale of its own."""
    given, parts = dict(guess.parts), []
    for i, one in enumerate(inputs):
        part = given.get(one.name, replace(guess, inputs=(), parts=()))
        with st.container(border=True):
            left_out = None if one.needed else _("left out")
            chosen = tuple(st.multiselect(f"**{one.name}**", list(source.columns), default=list(part.inputs)[:200], placeholder=left_out, key=f"map-part-{i}-{k}"))
            if not chosen and not one.needed:
                continue
            if chosen != part.inputs:
                part = replace(part, inputs=chosen, **looks_like(source, chosen))
            mark = zlib.crc32(repr(chosen).encode())  # other columns, other defaults
            parts.append((one.name, replace(part, **_columns(part, source, None, list(chosen), f"{k}-{i}-{mark}"))))
    return tuple(parts)


def _columns(guess: Mapping, source: Source, reader: Any, chosen: list[str], k: str) -> dict[str, Any]:
    return _text(guess, chosen, source, reader, k) if reader is not None or _written(source, chosen) else _numbers(guess, k)


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


def _numbers(guess: Mapping, k: str) -> dict[str, Any]:
    """Shape, type and scale."""
    a, b, c, d, e = st.columns(5)
    shape = a.text_input(_("Shape of a sample"), " × ".join(map(str, guess.shape)), placeholder="1 × 28 × 28", key=f"map-shape-{k}")
    dtype = b.selectbox(_("Type"), list(TYPES), list(TYPES).index(guess.dtype), key=f"map-type-{k}")
    whole = dtype != "float32"  # indices and masks are taken as they are
    scale = c.text_input(_("Times"), written((guess.scale,)), disabled=whole, key=f"map-scale-{k}", help=_("x → (x · times − mean) / std"))
    mean = d.text_input(_("Mean"), written(guess.mean), disabled=whole, key=f"map-mean-{k}", help=_("one number, or one a channel"))
    std = e.text_input(_("Std"), written(guess.std), disabled=whole, key=f"map-std-{k}", help=_("one number, or one a channel"))
    return {"shape": numbers(shape, whole=True), "dtype": dtype, "scale": numbers(scale)[0], "mean": numbers(mean), "std": numbers(std)}


def written(values: Sequence[float]) -> str:
    """Numbers as a field shows them; :func:`numbers` reads the same ones."""
    return ", ".join("1/255" if value == 1 / 255 else repr(value).removesuffix(".0") for value in values)


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
        pieces = [tile(picture(s, subject.task.labels), [("", label(subject, s.target) if told else ""), *_others(subject, i, s.kind)], "") for i, s in enumerate(shown)]
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


def _others(subject: Subject, index: int, kind: str) -> list[tuple[str, str]]:
    """The small inputs of a sample beside the one that is drawn."""
    inputs = subject.task.dataset("validation")[index][0]
    if not isinstance(inputs, dict) or kind == "table" or "reader" in subject.card:
        return []
    return [("", f"{name}: {text}") for name, text in values({n: one for n, one in inputs.items() if one.numel() <= SMALL}).items()]


def _shape(inputs: Any) -> str:
    """The shape of a sample, or of its parts by name."""
    if isinstance(inputs, dict):
        return ", ".join(f"{name} {_shape(one)}" for name, one in inputs.items())
    return " × ".join(map(str, getattr(inputs, "shape", ())))
