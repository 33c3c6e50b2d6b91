"""The page's head: which model, undo and redo, the recipe's menu, device and language."""

from __future__ import annotations

import streamlit as st

import explorer
from explorer.core.errors import ExplorerError
from explorer.core.recipe import Recipe
from explorer.models.device import devices, unused_gpu
from explorer.models.subject import Subject

from .. import counted, models
from ..history import History
from ..i18n import _, language, set_language, translated
from ..state import Workspace
from . import card, nav, open_file

LANGUAGES = {"en": "English", "zh_CN": "简体中文"}


def render(space: Workspace, subject: Subject) -> None:
    """One row; its widgets change the workspace before the rest of the page is drawn."""
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small", key="header"):
        st.html('<div class="x-brand">Compression Explorer</div>', width="content")
        st.selectbox(
            _("Model"),
            list(models.choices()),
            key="model",
            label_visibility="collapsed",
            width=180 if subject.parent is None else 208,
        )
        open_file.button()
        nav.link("recover", space)
        card.parent(subject)
        parameters = sum(p.numel() for p in subject.module.parameters())
        about = counted.parameters(parameters) + f" · {st.session_state.get('device') or devices()[0]}"
        if subject.parent is None:
            st.html(f'<div class="x-title"><span>{about}</span></div>')
        else:
            st.space("stretch")
        _steps(space)
        _recipe(space, subject)
        card.render(subject)
        _settings(space)


def _steps(space: Workspace) -> None:
    history = space.history
    with st.container(horizontal=True, wrap=False, gap="small", width="content", key="steps"):
        for key, icon, label, target in (
            ("undo", ":material/undo:", _("Undo"), history.undo()),
            ("redo", ":material/redo:", _("Redo"), history.redo()),
        ):
            st.button(label, icon=icon, key=key, disabled=target is history, on_click=space.replace, args=(target,), shortcut=SHORTCUTS[key], help=f"{label} ({SHORTCUTS[key]})")
        st.button(
            _("Reset"),
            key="reset",
            disabled=not history.present.rules,
            on_click=lambda: space.replace(space.history.push(Recipe(name=space.history.present.name))),
        )


def _speak(space: Workspace) -> None:
    set_language(st.session_state["language-choice"])
    space.generation += 1  # a list that is shown goes on showing the old language's word


SHORTCUTS = {"undo": "Ctrl+Z", "redo": "Ctrl+Shift+Z"}


def _recipe(space: Workspace, subject: Subject) -> None:
    recipe = space.history.present
    popover = st.popover(recipe.name or _("Recipe"), icon=":material/receipt_long:", key=f"recipe-{space.generation}", on_change="rerun")
    if not popover.open:
        return
    with popover:
        name = st.text_input(_("Name of this recipe"), recipe.name, max_chars=80, key=f"name-{space.generation}")
        if name != recipe.name:
            space.history = History(recipe.named(name), space.history.past, space.history.future)
        if recipe.rules:
            json_tab, python_tab = st.tabs(["JSON", "Python"])
            json_tab.code(recipe.to_json(), language="json", height=220)
            python = f'import explorer\n\nsubject = explorer.load("{subject.card.get("source", subject.name)}")\nrecipe = {recipe.to_python()}\n'
            python_tab.code(python + "report = explorer.evaluate(subject, recipe)", language="python", height=220)
            st.download_button(_("Download JSON"), recipe.to_json(), f"{recipe.name or 'recipe'}.json", "application/json", icon=":material/download:", on_click="ignore")
        else:
            st.caption(_("Nothing is pruned or quantized yet."))
        text = st.text_area(_("Paste a recipe"), key=f"paste-{space.generation}", height=80, placeholder='{"format": "compression-explorer-recipe", ...}')
        file = st.file_uploader(_("or upload one"), type=["json"], key=f"upload-{space.generation}")
        if st.button(_("Use this recipe"), disabled=not text and file is None):
            try:
                given = Recipe.from_json(file.getvalue() if file is not None else text)
                explorer.resolve(subject, given)
            except ExplorerError as error:
                st.error(translated(error), icon=":material/error:")
            else:
                space.replace(space.history.push(given))
                st.rerun()


def _settings(space: Workspace) -> None:
    with st.popover("", icon=":material/tune:", help=_("Device and language")):
        st.segmented_control(
            _("Language"), list(LANGUAGES), default=language(), format_func=LANGUAGES.__getitem__, key="language-choice",
            required=True, on_change=lambda: _speak(space),
        )  # fmt: skip
        st.selectbox(_("Device"), devices(), key="device", help=_("Where models are evaluated; results agree within the stated precision."))
        if unused_gpu():
            st.warning(_("This machine has an NVIDIA GPU, but this build of torch cannot use it. The README says how to install one that can."))
