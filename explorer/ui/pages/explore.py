"""Explore: see a model's weights, drag what goes, watch what it costs."""

from __future__ import annotations

from typing import Any

import streamlit as st

import explorer
from explorer.core.errors import ExplorerError
from explorer.evaluate.costs import counts as counts_of
from explorer.files.noise import WARNING
from explorer.models.subject import Subject
from explorer.ui import links, models, state, turns
from explorer.ui.i18n import _, translated
from explorer.ui.panels import detail, header, overview, own_file, ready, settle, tabs

TITLE, ICON, PATH, ORDER = "Explore", ":material/tune:", "explore", 0


def render() -> None:
    """The whole workspace, top to bottom."""
    name = links.read()
    space = state.workspace(name)
    space.stale = False
    # Bars and messages come and go in a place of their own: what stands below keeps its position, and is not built anew.
    head, notices = st.container(), st.container(key="notices")
    board = detail.Board.draw(name)
    with notices:
        subject = models.open_subject(name)
    with turns.pages.turn(), subject.steady():  # its weights are those of this run's beginning
        _render(space, subject, head, notices, board)


def _render(space: state.Workspace, subject: Subject, head: Any, notices: Any, board: detail.Board) -> None:
    space.keep_to(subject.layers)
    with notices:
        ready.prepare(subject, space.history.present)
    try:
        explorer.resolve(subject, space.history.present)
    except ExplorerError as error:
        space.replace(space.history.undo() if space.history.past else type(space.history)())
        space.message = error.message
    with head:
        header.render(space, subject)
    with notices:
        _notices(space, subject)
    plan = explorer.resolve(subject, space.history.present)
    overview.render(space, subject, counts_of(subject, plan), plan.protected)
    detail.render(space, subject, board)
    tabs.render(space, subject)
    links.write(space)
    settle.render(space, subject, board)


def _notices(space: state.Workspace, subject: Subject) -> None:
    """What must be said before anything is read off the page."""
    links.say_waiting(space)
    if space.message:
        st.error(_("That recipe was not used: {reason}", reason=translated(space.message)), icon=":material/error:")
    if subject.card.get("noise"):
        st.warning(translated(WARNING) + ".", icon=":material/warning:")
    if subject.task.kind == "weights" and not subject.card.get("forward", True):
        st.caption(own_file.missing())
