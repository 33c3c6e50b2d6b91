"""What to scan: the few choices of the tab Sensitivity, and the button that starts, cancels or goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

import explorer
from explorer.analysis.criteria import registry
from explorer.core.recipe import Recipe
from explorer.core.rules import Keep
from explorer.evaluate.compare import Progress
from explorer.models.subject import Subject
from explorer.studies.sensitivity import sensitivity_steps

from ..i18n import _, help_for, language
from ..jobs import current, start
from ..state import Workspace, user
from .controls import criterion_title

NAME = "scan"
TENTHS = tuple(i / 10 for i in range(1, 10))
RANGES = {
    "even": TENTHS,
    "high": (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99),
    "low": (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
}


@dataclass(frozen=True)
class Asked:
    """What a scan was started with."""

    what: str = "layers"
    criterion: str = "l1"
    mode: str = "hard"
    range: str = "even"
    exact: bool = False

    def settings(self) -> dict[str, Any]:
        """Arguments of :func:`explorer.sensitivity`."""
        if self.what == "bits":
            return {"by": "bits", "exact": self.exact}
        granularity = {"groups": "unit", "both": ("weight", "unit")}.get(self.what, "weight")
        return {
            "criterion": self.criterion,
            "mode": self.mode,
            "granularity": granularity,
            "sparsities": RANGES[self.range],
            "exact": self.exact,
        }


def locks(recipe: Recipe) -> Recipe:
    """A recipe that only protects what this one protects."""
    return Recipe(tuple(rule for rule in recipe.rules if isinstance(rule, Keep)))


def name_of(space: Workspace) -> str:
    """The scan of a model in the session's jobs."""
    return f"{NAME}/{space.model}"


def choose(space: Workspace, subject: Subject) -> Asked:
    """The few choices and the button; the settings chosen."""
    known = st.session_state.get(f"scan-asked-{space.model}", Asked())
    whats = {
        "layers": _("weights of layers"),
        "groups": _("units of groups"),
        "both": _("both"),
        "bits": _("bits of layers"),
    }
    options = [what for what in whats if what not in ("groups", "both") or subject.groups]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="row-scan"):
        what = st.segmented_control(
            _("What is changed"), options, default=known.what if known.what in options else "layers", required=True, format_func=whats.__getitem__,
            key=f"scan-what-{space.model}", help=help_for("term", "sensitivity", ""), width="content",
        )  # fmt: skip
        criterion, mode, span = known.criterion, known.mode, known.range
        if what != "bits":
            names = [name for name in explorer.criteria() if _scores(name, str(what))]
            criterion = st.selectbox(
                _("Ranked by"), names, index=names.index(criterion) if criterion in names else 0, format_func=criterion_title, key=f"scan-criterion-{what}-{space.model}-{language()}",
                width=190, help=help_for("term", "criterion", ""),
            )  # fmt: skip
            mode = st.segmented_control(
                _("Mode"), ["hard", "scale"], default=mode, required=True, format_func={"hard": _("hard"), "scale": _("soft")}.__getitem__,
                key=f"scan-mode-{space.model}", width="content",
            )  # fmt: skip
            spans = {"even": "10 … 90 %", "low": "2 … 50 %", "high": "50 … 99 %"}
            span = st.selectbox(
                _("Steps"), list(spans), format_func=spans.__getitem__, key=f"scan-range-{space.model}", width=130
            )
        exact = st.toggle(
            _("every sample"), known.exact, key=f"scan-exact-{space.model}", width="content",
            help=_("Off: a point is finished once the change over the whole split is known to ± 0.5 points (95 %), which often takes a fraction of the samples."),
        )  # fmt: skip
        asked = Asked(str(what), str(criterion), str(mode), str(span), bool(exact))
        st.session_state[f"scan-asked-{space.model}"] = asked
        _button(space, subject, asked)
    return asked


def _scores(criterion: str, what: str) -> bool:
    """Whether a criterion scores single weights, or units, where these are changed."""
    entry = registry[criterion]
    return {"layers": entry.of_weights, "groups": entry.of_units}.get(what, True)


def _button(space: Workspace, subject: Subject, asked: Asked) -> None:
    job = current(name_of(space))
    if job is not None and job.running:
        st.button(
            _("Cancel"),
            icon=":material/stop:",
            key=f"scan-cancel-{space.model}",
            disabled=job.stopped,
            on_click=job.stop,
        )
        return
    halfway = job is not None and job.key == asked and job.cancelled
    label = _("Go on") if halfway else _("Scan")
    clicked = st.button(label, icon=":material/play_arrow:", key=f"scan-start-{space.model}", type="primary")
    if clicked:
        start(
            name_of(space),
            asked,
            partial(_steps, subject, locks(space.history.present), asked, st.session_state.get("device"), user()),
            job if halfway else None,
        )
        st.rerun()


def _steps(
    subject: Subject, base: Recipe, asked: Asked, device: Any, who: str, _tell: object, cancel: Callable[[], bool]
) -> Iterator[tuple[pd.DataFrame, Progress]]:
    yield from sensitivity_steps(subject, base, device=device, cancel=cancel, user=(who, NAME), **asked.settings())
