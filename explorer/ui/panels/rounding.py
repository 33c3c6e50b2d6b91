"""What rounding to fewer bits loses, layer by layer: it takes weights alone, and no data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

import explorer
from explorer.compress.quantizers import registry
from explorer.core.errors import Cancelled
from explorer.core.message import say
from explorer.models.subject import Subject

from .. import bars, jobs
from ..i18n import _, help_for, translated
from ..state import Workspace

BITS = (8, 6, 5, 4, 3, 2)
TICK = 0.5  # seconds


def render(space: Workspace, subject: Subject) -> None:
    """Choose a quantizer; a table of decibels fills, a row a layer and a column a width."""
    name = f"rounding/{space.model}"
    st.caption(_("SQNR, in decibels: how far the weights stand above what rounding adds; 6 dB are one bit. Of the original weights, counted without any data."))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        names = [one for one in explorer.quantizers() if set(BITS) & set(registry[one].bits)]
        quantizer = st.selectbox(_("Quantizer"), names, names.index("minmax"), key=f"rounding-how-{space.model}", width=220, help=help_for("quantizer", "minmax", ""))
        per = st.segmented_control(
            _("Scales per"), ["tensor", "channel"], default="channel", required=True, key=f"rounding-per-{space.model}", width="content",
            format_func={"tensor": _("tensor"), "channel": _("channel")}.__getitem__,
        )  # fmt: skip
        job = jobs.current(name)
        if job is not None and job.running:
            st.button(_("Cancel"), icon=":material/stop:", key=f"rounding-stop-{space.model}", on_click=job.stop)
        elif st.button(_("Start"), icon=":material/play_arrow:", key=f"rounding-go-{space.model}"):
            jobs.start(name, (quantizer, per), partial(losses, subject, str(quantizer), str(per)))
            st.rerun()
    job = jobs.current(name)
    if job is not None:
        st.fragment(_draw, run_every=TICK if job.running else None)(subject, job)


def losses(subject: Subject, quantizer: str, per: str, tell: jobs.Tell, cancel: jobs.Ask) -> Iterator[dict[str, Any]]:
    """One row a layer: {"layer", "8": dB, "6": ...} for the widths that the quantizer has."""
    granularity: Any = per if per in registry[quantizer].granularities else "tensor"
    widths = [bits for bits in BITS if bits in registry[quantizer].bits]
    done, total = 0, len(widths) * sum(layer.numel for layer in subject.layers)
    for layer in subject.layers:
        row: dict[str, Any] = {"layer": layer.name}
        for bits in widths:
            if cancel():
                raise Cancelled(say("cancelled"))
            recipe = explorer.Recipe().quantize(layer.name, bits=bits, quantizer=quantizer, granularity=granularity)
            row[str(bits)] = float(explorer.quantization_error(subject, recipe, cancel=cancel)["sqnr_db"].iloc[0])
            done += layer.numel
            tell(done, total)
        yield row


def _draw(subject: Subject, job: jobs.Job) -> None:
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
    if job.running:
        bars.bar(job, _("{n} of {total} layers", n=len(job.found), total=len(subject.layers)))
    rows = pd.DataFrame(job.found)
    if len(rows):
        widths = {name: st.column_config.NumberColumn(_("{bits} bits", bits=name), format="%.1f dB") for name in rows.columns[1:]}
        st.dataframe(rows, hide_index=True, column_config={"layer": st.column_config.TextColumn(_("layer"), pinned=True), **widths})
    if not job.running and not st.session_state.get(f"rounding-drawn-{id(job)}"):
        st.session_state[f"rounding-drawn-{id(job)}"] = True
        st.rerun()  # once more, without the timer
