"""This model's weights beside those of another file: what is missing, what changed, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from explorer.files.differences import EQUAL, STATES, compare_subjects
from explorer.models.subject import Subject

from .. import bars, jobs
from ..i18n import _, translated
from ..state import Workspace
from . import own_file

TICK = 0.5  # seconds


def render(space: Workspace, subject: Subject) -> None:
    """A file; then the table of what differs."""
    st.caption(_("Another checkpoint of the same model, for example before and after training. Tensors are compared by their names: a is this model, b the other file."))
    received = own_file.choose("other")
    if received is None:
        return
    if received.error is not None:
        own_file.refused(received.error)
        return
    name, key = f"other/{space.model}", received.key
    job = jobs.current(name)
    if job is None or job.key != key:
        job = jobs.start(name, key, partial(_compare, subject, received.value))
    st.fragment(_draw, run_every=TICK if job.running else None)(space, job)


def _compare(a: Subject, b: Subject, tell: jobs.Tell, cancel: jobs.Ask) -> Iterator[pd.DataFrame]:
    yield compare_subjects(a, b, progress=tell, cancel=cancel)


def _draw(space: Workspace, job: jobs.Job) -> None:
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
        return
    if job.running:
        bars.bar(job, _("Comparing …"))
        st.button(_("Cancel"), icon=":material/stop:", key="other-stop", on_click=job.stop)
        return
    if job.latest is None:
        st.caption(_("cancelled"))
        return
    data: pd.DataFrame = job.latest
    words = {
        "equal": _("equal"), "changed": _("changed"), "other shape": _("other shape"), "only in a": _("only in a"), "only in b": _("only in b"),
    }  # fmt: skip
    counts = data["state"].value_counts()
    st.markdown(" · ".join(f"**{counts[state]:,}** {words[state]}" for state in STATES if state in counts))
    every = st.toggle(_("equal tensors, too"), key=f"other-every-{space.model}")
    shown = data if every else data[data["state"] != EQUAL]
    shown = shown.assign(state=shown["state"].map(words), **{side: shown[side].map(_shape) for side in ("shape_a", "shape_b")})
    share: dict[str, Any] = {"format": "percent", "min_value": 0, "max_value": 1}
    st.dataframe(
        shown,
        hide_index=True,
        column_config={
            "tensor": st.column_config.TextColumn(_("tensor"), pinned=True), "state": _("state"), "shape_a": _("shape, a"), "shape_b": _("shape, b"),
            "dtype_a": _("type, a"), "dtype_b": _("type, b"), "max_abs": st.column_config.NumberColumn("max |a − b|", format="%.3g"),
            "relative_l2": st.column_config.NumberColumn("‖a − b‖ / ‖a‖", format="%.3g"), "cosine": st.column_config.NumberColumn(_("cosine"), format="%.6f"),
            "changed": st.column_config.NumberColumn(_("changed"), format="percent"),
            "sparsity_a": st.column_config.ProgressColumn(_("sparsity, a"), **share), "sparsity_b": st.column_config.ProgressColumn(_("sparsity, b"), **share),
        },
    )  # fmt: skip
    st.download_button(_("Download CSV"), data.to_csv(index=False), f"{space.model}-compared.csv", "text/csv", icon=":material/download:", on_click="ignore")
    if not st.session_state.get(f"other-drawn-{id(job)}"):
        st.session_state[f"other-drawn-{id(job)}"] = True
        st.rerun()  # once more, without the timer


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else " × ".join(map(str, shape))
