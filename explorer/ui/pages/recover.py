"""Recover: retrain what a cut has damaged, watch it come back, take it over."""

from __future__ import annotations

import streamlit as st

import explorer
from explorer.core.errors import ExplorerError
from explorer.recover.jobs import jobs
from explorer.ui import links, models, state
from explorer.ui.i18n import _, translated
from explorer.ui.owner import owner
from explorer.ui.panels import nav, recover_choices, recover_list, recover_result, recover_watch

TITLE, ICON, PATH, ORDER = "Recover", ":material/healing:", "recover", 1


def render() -> None:
    """Choices at the left, what becomes of them at the right, all of one's jobs below."""
    name = links.read()
    space = state.workspace(name)
    subject = models.open_subject(name)
    space.keep_to(subject.layers)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="header"):
        st.html('<div class="x-brand">Compression Explorer</div>', width="content")
        nav.link("explore", space)
        st.html(
            f'<div class="x-head"><b>{_("Recover")}</b> <span>{recover_choices.headline(space, subject)}</span></div>'
        )
    links.write(space)
    links.say_waiting(space)
    try:
        explorer.resolve(subject, space.history.present)
        mine = jobs().mine(owner())
        job = recover_list.chosen(mine, subject, space.history.present)
        if job is not None:
            jobs().stand(job)  # the board shows what it had come to, too
        before = recover_result.board(subject, space.history.present, job)
        left, right = st.columns([6, 13], gap="large")
        with left:
            recover_choices.render(space, subject, mine)
        with right:
            recover_watch.render(subject, job, before)
            recover_result.render(space, subject, job)
        recover_list.render(mine, job)
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
