"""Subjects as the screen sees them: samples and registered ones, shared by every session, and a session's own."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import streamlit as st

import explorer
from explorer.core.errors import LoadError
from explorer.core.message import say
from explorer.models.subject import Subject
from explorer.recover.jobs import leave as leave_jobs

from . import bars, state
from .i18n import _
from .presence import watch
from .state import show

OWN = "own-subjects"  # in the session's state: {name: Subject}
SHOWN = "shown-model"  # in the session's state: the name of the one that was opened last
PATIENCE = 1.0  # seconds before a bar is worth its place
_lock = threading.Lock()
_opened: set[str] = set()
_registered: dict[str, Subject] = {}


def register(subject: Subject) -> None:
    """Show a subject of this process to every session, before the samples. Raises :class:`LoadError` for a sample's name."""
    if not isinstance(subject, Subject):
        raise LoadError(say("{type}; accepted: an explorer.Subject", type=type(subject).__name__))
    if subject.name in explorer.samples() and subject is not explorer.load(subject.name):
        raise LoadError(say("a sample model has the name {name!r}; accepted: another name=", name=subject.name))
    with _lock:
        _registered[subject.name] = subject


def leave_with_session(received: dict[str, Any]) -> None:
    """When this session is over, nothing of what it opened or received stays: not in its state, nor with its jobs."""
    own, name = st.session_state.setdefault(OWN, {}), state.user()

    def end() -> None:
        own.clear()
        received.clear()
        leave_jobs(name)

    watch(end)


def choices() -> tuple[str, ...]:
    """Names of the models that this session may open."""
    own = st.session_state.get(OWN, {})
    return tuple(dict.fromkeys([*own, *_registered, *explorer.samples()]))


def default() -> str:
    """The model that a session opens with."""
    return next(iter(_registered), "fashion-lenet5")


def keep(subject: Subject) -> str:
    """Add a subject to this session alone, under a name that is free; that name."""
    own: dict[str, Subject] = st.session_state.setdefault(OWN, {})
    name, number = subject.name, 2
    while name in explorer.samples() or name in _registered or name in own:
        name, number = f"{subject.name} {number}", number + 1
    subject.name = name
    own[name] = subject
    return name


def keep_once(subject: Subject) -> str:
    """As :func:`keep`; a subject that is kept already stays under its name."""
    own: dict[str, Subject] = st.session_state.setdefault(OWN, {})
    return next((name for name, one in own.items() if one is subject), None) or keep(subject)


def name_of(subject: Subject) -> str:
    """The name by which this session finds a subject, kept as its own where it is none that everybody has."""
    for name, one in _registered.items():
        if one is subject:
            return name
    if subject.name in explorer.samples() and explorer.load(subject.name) is subject:
        return subject.name
    return keep_once(subject)


def everybodys(subject: Subject) -> bool:
    """Whether a model began as a sample or as a registered one."""
    while subject.parent is not None:
        subject = subject.parent
    sample = subject.name in explorer.samples() and explorer.load(subject.name) is subject
    return sample or any(one is subject for one in _registered.values())


def own() -> list[Subject]:
    """The session's own subjects and the registered ones."""
    return [*st.session_state.get(OWN, {}).values(), *_registered.values()]


def open_subject(name: str) -> Subject:
    """A session's own subject, a registered one or a sample, which is loaded once a process. What can be removed from it is known
    then: of a deep model that takes a while, with a bar, and Cancel goes back to the model before.

    Afterwards everybody's subjects are left out of garbage collection, which would otherwise walk all of torch at every collection and
    hold up everybody's drags."""
    own: dict[str, Subject] = st.session_state.get(OWN, {})
    if name in own and own[name].surveyed:
        subject = own[name]
    elif name not in own and name in _opened:
        subject = _registered[name] if name in _registered else explorer.load(name)
    else:
        with st.spinner(_("Opening {name}, and looking for what can be removed from it …", name=name), show_time=True):
            subject = own.get(name) or _registered.get(name) or explorer.load(name)
            _survey(subject, name)
        if name not in own:
            with _lock:
                if name not in _opened:
                    _opened.add(name)
                    gc.collect()
                    gc.freeze()
    st.session_state[SHOWN] = name
    return subject


def _survey(subject: Subject, name: str) -> None:
    """Look for what can be removed from a subject, with a bar where it takes long. A click ends it: it starts a run of its own."""
    began = time.perf_counter()
    outer: Any = None
    bar: Any = None

    def progress(done: int, total: int) -> None:
        nonlocal outer, bar
        spent, share = time.perf_counter() - began, done / max(total, 1)
        if bar is None and (spent < PATIENCE or share > 0.5):
            return
        if bar is None:
            outer = st.empty()
            place = outer.container(horizontal=True, vertical_alignment="center", wrap=False)
            bar = place.empty()
            place.button(_("Cancel"), key="open-cancel", on_click=_leave, args=(name,))
        bar.progress(share, bars.said(_("Opening …"), spent, done, total))

    subject.survey(progress)
    if outer is not None:
        outer.empty()


def _leave(name: str) -> None:
    """Back to the model that was shown before, or to the one that opens at once."""
    known = st.session_state.get(SHOWN)
    show(known if known not in (None, name) else next(one for one in (default(), *explorer.samples()) if one != name))
