"""The tabs below the histogram: few, some with several views; only the open one is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.models.subject import Subject

from ..i18n import _, translated
from ..state import Workspace
from . import changed, criteria, export, graph, joint, other_file, rounding, sensitivity, speed, table, weights

OPEN = "view"  # in the session's state and in links: the view's name, "" for the first


@dataclass(frozen=True)
class View:
    """One thing to look at. name: what links call it."""

    name: str
    label: str
    draw: Callable[[Workspace, Subject], None]


@dataclass(frozen=True)
class Tab:
    """Views that answer one kind of question."""

    label: str
    views: tuple[View, ...]


def tabs_of(subject: Subject) -> list[Tab]:
    """What there is to see of a model."""
    export_view = View("export", _("Export"), export.render)
    network = [View("layers", _("Layers"), table.render), View("weights", _("Weights"), weights.render), View("graph", _("Graph"), graph.render)]
    if subject.task.kind == "weights":  # nothing that runs the model
        if not subject.card.get("graph"):  # only of a file whose graph is drawn as it is
            del network[-1]
        error = View("error", _("Quantization error"), rounding.render)
        other = View("other", _("Compare with a file"), other_file.render)
        return [
            Tab(_("Network"), tuple(network)), Tab(error.label, (error,)), Tab(other.label, (other,)),
            Tab(_("Export"), (View("export", _("Export"), export.weights),)),
        ]  # fmt: skip
    studies = (
        View("criteria", _("Criteria"), criteria.render), View("sensitivity", _("Sensitivity"), sensitivity.render),
        View("map", _("Sparsity × bits"), joint.render),
    )  # fmt: skip
    return [
        Tab(_("Changed"), (View("", _("Changed"), changed.render),)), Tab(_("Network"), tuple(network)), Tab(_("Studies"), studies),
        Tab(_("Size and speed"), (View("speed", _("Size and speed"), speed.render),)), Tab(export_view.label, (export_view,)),
    ]  # fmt: skip


def render(space: Workspace, subject: Subject) -> None:
    """The tabs. What was open stays open in another language, on another model and in a link."""
    tabs = tabs_of(subject)
    labels = [tab.label for tab in tabs]
    if st.session_state.get("tabs") not in labels:
        st.session_state["tabs"] = next((tab.label for tab in tabs for view in tab.views if view.name == _open()), labels[0])
    for place, tab in zip(st.tabs(labels, key="tabs", on_change="rerun"), tabs, strict=True):
        if place.open:
            with place:
                view = _view(tab)
                st.session_state[OPEN] = "" if view is tabs[0].views[0] else view.name
                try:
                    view.draw(space, subject)
                except ExplorerError as error:
                    st.error(translated(error), icon=":material/error:")


def _open() -> str:
    return str(st.session_state.get(OPEN, ""))


def _view(tab: Tab) -> View:
    """The tab's view that is open, the one that was open in it last, or its first; several are offered in a row."""
    if len(tab.views) == 1:
        return tab.views[0]
    seen: dict[str, str] = st.session_state.setdefault("views", {})
    first = tab.views[0].name
    names = [view.name for view in tab.views]
    default = _open() if _open() in names else seen.get(first, first)
    labels = {view.name: view.label for view in tab.views}
    name = st.segmented_control(
        _("Show"), names, default=default if default in names else first, format_func=labels.__getitem__, key=f"views-{first}",
        required=True, label_visibility="collapsed",
    )  # fmt: skip
    seen[first] = name
    return _named(tab.views, name)


def _named(views: Sequence[View], name: str | None) -> View:
    return next((view for view in views if view.name == name), views[0])
