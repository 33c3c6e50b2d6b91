"""What one browser session owns: a small workspace a model. Everything heavy is shared between sessions."""

from __future__ import annotations

import base64
import binascii
import secrets
import weakref
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from explorer.core.errors import RecipeError
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.evaluate.queue import leave
from explorer.recover.jobs import leave as leave_jobs

from ..core.message import say
from .edits import Settings
from .history import History

KEPT = ("model", "device")  # choices that hold on every page
MAX_LINK = 200_000  # characters of an unpacked recipe in a link


@dataclass
class Workspace:
    """One model as one person works on it.

    generation changes whenever the controls must be drawn anew from the recipe (another layer, undo, reset); seq is the
    last event of the handle that was answered; live is the recipe while the handle moves; message says, until the next step,
    why a recipe was not used.
    """

    model: str
    history: History = field(default_factory=History)
    layer: str = ""
    chosen: Settings = field(default_factory=Settings)
    generation: int = 0
    seq: int = 0
    live: Recipe | None = None
    log_counts: bool = False
    activations: bool = False  # the histogram is that of what the layer's weights multiply
    touched: bool = False
    message: str = ""
    stale: bool = False  # something outside of the running fragment shows an older state

    def commit(self, recipe: Recipe) -> None:
        """One undo step; the controls stay as they are."""
        self.history = self.history.push(recipe)
        self.live = None
        self.message = ""
        self.stale = True

    def replace(self, history: History) -> None:
        """Undo, redo, reset, a pasted recipe: the controls follow."""
        self.history = history
        self.live = None
        self.message = ""
        self.generation += 1
        self.stale = True

    def keep_to(self, layers: Sequence[Layer]) -> None:
        """Where none of these layers is looked at: the largest."""
        if self.layer not in {layer.name for layer in layers}:
            self.layer = max(layers, key=lambda layer: layer.numel).name

    def select(self, layer: str) -> None:
        """Another layer: the controls follow."""
        if layer != self.layer:
            self.layer = layer
            self.live = None
            self.generation += 1


class Visitor:
    """Who this session is in the devices' queues; when the session ends, what was held for it alone is let go."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        for name in (self.name, self.background):
            weakref.finalize(self, leave, name)
        weakref.finalize(self, leave_jobs, self.name)

    @property
    def background(self) -> str:
        """Who its threads are: another one, since a newer request of the same user ends an older one."""
        return f"{self.name} in the background"


def _visitor() -> Visitor:
    if "visitor" not in st.session_state:
        st.session_state["visitor"] = Visitor()
    found: Visitor = st.session_state["visitor"]
    return found


def user() -> str:
    """The session's name in the queues."""
    return _visitor().name


def background() -> str:
    """The name in the queues of what a session's threads do."""
    return _visitor().background


def workspace(model: str) -> Workspace:
    """The session's workspace of a model, made on first use."""
    spaces: dict[str, Workspace] = st.session_state.setdefault("workspaces", {})
    return spaces.setdefault(model, Workspace(model))


def arrive(pages: Mapping[str, Any]) -> None:
    """At the start of every run: where the pages are, and what must not be forgotten on one that does not show its widget."""
    st.session_state["pages"] = dict(pages)
    if "go-model" in st.session_state:  # a widget's state may only be set before it is drawn
        st.session_state["model"] = st.session_state.pop("go-model")
    for key in KEPT:
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]


def page(path: str) -> Any:
    """A page to link or switch to."""
    return st.session_state["pages"][path]


def show(model: str, recipe: Recipe | None = None) -> Workspace:
    """Make a model the one that is looked at; with a recipe, as a step. Returns its workspace."""
    st.session_state["go-model"] = model
    space = workspace(model)
    if recipe is not None:
        space.replace(space.history.push(recipe))
    return space


def pack(recipe: Recipe) -> str:
    """A recipe as a short text for the URL."""
    text = recipe.to_json().encode()
    return base64.urlsafe_b64encode(zlib.compress(text, 9)).decode().rstrip("=")


def unpack(text: str) -> Recipe:
    """The recipe of a link. Raises :class:`RecipeError`."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(raw, MAX_LINK)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise RecipeError(
            say(
                "the link's recipe could not be read: it may have been cut short or changed; accepted: the whole link ({error})", error=str(error)
            )
        ) from None
    if unpacker.unconsumed_tail:
        raise RecipeError(say("the link's recipe is too long"))
    if not unpacker.eof:
        raise RecipeError(say("the link's recipe was cut short"))
    return Recipe.from_json(content)
