"""The address of what is looked at: a model, a layer, a recipe, a view below them. It can be shared, and brings the state back after a reload.

A recovered model is named by its job, which its owner alone can open (``job=``); an opened file by its content (``file=``), since
it is gone with the session that sent it: the rest of such a link waits until the same file is opened again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.core.errors import ExplorerError, RecipeError
from explorer.core.message import say
from explorer.core.recipe import Recipe

from . import models, recovered
from .history import History
from .i18n import _, translated
from .state import Workspace, pack, page, unpack, workspace

KEYS = ("model", "job", "file", "layer", "r", "view")
DIGITS = 16  # of a file's digest
WRITTEN = "link-written"  # in the session's state: (what the address should be, since when)
NAME = 60  # letters of a name that are shown
LATE = 1.0  # seconds for which a run may still carry the address from before the last change, unless the browser says that it went there
WAITS = "link-waits"  # in the session's state: a Waiting


@dataclass(frozen=True)
class Waiting:
    """A link to what this session does not have. reason: why not; asked: the link's parts; file: whether opening a file may bring it."""

    reason: str
    asked: dict[str, str]
    file: bool


def write(space: Workspace) -> None:
    """Put the session's state into the URL; a link that waits for its file stays there until something else is done."""
    waits = waiting(space)
    if waits is not None and waits.file:
        return
    wanted = _wanted(space)
    if {key: st.query_params.get(key) for key in KEYS} != {key: wanted.get(key) for key in KEYS}:
        st.query_params.from_dict(wanted)
        st.session_state[WRITTEN] = (wanted, time.monotonic())
    elif wanted != st.session_state.get(WRITTEN, ({},))[0]:  # the browser was there first
        st.session_state[WRITTEN] = (wanted, -LATE)


def turn(path: str, space: Workspace) -> None:
    """To a page by its path. The address turns with it: written when that page is drawn, it would be a step of its own for Back."""
    wanted = _wanted(space)
    st.session_state[WRITTEN] = (wanted, time.monotonic())
    st.switch_page(page(path), query_params=wanted)


def _wanted(space: Workspace) -> dict[str, str]:
    """The address of a workspace."""
    recipe = space.history.present
    packed = pack(recipe) if recipe.rules or recipe.name else ""
    parts = {"model": space.model, **_address(space.model), "layer": space.layer, "r": packed, "view": st.session_state.get("view", "")}
    return {key: value for key, value in parts.items() if value}


def _address(name: str) -> dict[str, str]:
    """What names one of the session's own models beyond this session."""
    subject = st.session_state.get(models.OWN, {}).get(name)
    if subject is None:
        return {}
    job = recovered.job_of(subject)
    if job is not None:
        return {"job": job.id}
    card = subject.card if subject.parent is None else {}
    digest = str(card.get("digest") or card.get("bytes") or "")  # too large a file is not read for its digest
    return {"file": digest[:DIGITS]} if digest else {}


def read() -> str:
    """Once a session, and when the browser went back or forward: adopt model, layer and recipe of the URL. Returns the name of the
    model that is shown."""
    if "model" in st.session_state:
        _follow()
        return str(st.session_state["model"])
    asked = {key: st.query_params[key] for key in KEYS if key in st.query_params}
    name = asked.get("model", models.default())
    st.session_state["view"] = asked.get("view", "")
    try:
        if "job" in asked:
            with st.spinner(_("Opening {model} …", model=name)):
                name = models.keep_once(recovered.open_job(asked["job"]))
        elif "file" in asked:
            raise RecipeError(say("it is a file that was opened in another visit"))
        elif name not in models.choices():
            raise RecipeError(say("there is none of that name"))
    except ExplorerError as error:
        st.session_state[WAITS] = Waiting(
            error.message, asked, "file" in asked or isinstance(error, recovered.StartGone)
        )
        name, asked = models.default(), {}
    st.session_state["model"] = name
    _adopt(name, asked)
    return name


def _follow() -> None:
    """The address is no longer what was written there: the browser went back or forward, which undoes and redoes."""
    asked = {key: st.query_params[key] for key in KEYS if key in st.query_params}
    written, since = st.session_state.get(WRITTEN, (asked, 0.0))
    name = asked.get("model", "")
    late = time.monotonic() - since < LATE and not getattr(get_script_run_ctx(), "is_history_navigation", False)
    if asked == written or late or name not in models.choices():
        return
    if _address(name) != {key: asked[key] for key in ("job", "file") if key in asked}:
        return
    try:
        recipe = unpack(asked["r"]) if "r" in asked else Recipe()
    except RecipeError:
        return
    st.session_state["model"], st.session_state["view"] = name, asked.get("view", "")
    for key in [key for key in st.session_state if str(key) == "tabs" or str(key).startswith("views-")]:
        del st.session_state[key]  # the view's controls follow the address
    space = workspace(name)
    if recipe != space.history.present:
        space.replace(space.history.towards(recipe))
    space.select(asked.get("layer", space.layer))


def _adopt(name: str, asked: dict[str, str]) -> None:
    space = workspace(name)
    space.layer = asked.get("layer", "")
    if "r" in asked:
        try:
            space.replace(History(unpack(asked["r"])))
        except RecipeError as error:
            space.message = error.message


def opened(name: str) -> str:
    """After a file was opened as ``name``: if the session's link waits for it, its layer and recipe, or what was recovered from it.
    Returns the name of the model to show."""
    waits: Waiting | None = st.session_state.get(WAITS)
    if waits is None:
        return name
    if "job" in waits.asked:
        try:
            name = models.keep_once(recovered.open_job(waits.asked["job"]))
        except ExplorerError:  # another file than the one it came from
            return name
    elif _address(name).get("file") != waits.asked.get("file"):
        return name
    del st.session_state[WAITS]
    _adopt(name, waits.asked)
    return name


def waiting(space: Workspace) -> Waiting | None:
    """The link that waits, as long as nothing was done instead."""
    waits: Waiting | None = st.session_state.get(WAITS)
    untouched = space.model == models.default() and not space.history.past and not space.history.present.rules
    return waits if untouched else None


def say_waiting(space: Workspace) -> None:
    """Why the model that the link names is not shown, and what brings it."""
    waits = waiting(space)
    if waits is None:
        return
    name, reason = _shown(waits.asked.get("model") or waits.asked.get("job", "")), translated(waits.reason)
    text = _("No model {name} here: {reason}. Showing {default}.", name=name, reason=reason, default=models.default())
    if "file" in waits.asked:
        text += " " + _("Open the file again: the link's recipe waits for it.")
    st.warning(text, icon=":material/warning:")


def _shown(name: str) -> str:
    """A name from an address, which anybody may have written: short, and never markup."""
    short = name if len(name) <= NAME else name[: NAME - 1] + "…"
    return "".join(f"\\{one}" if one in "\\`*_[]()<>#$:!~|{}" else one for one in repr(short))
