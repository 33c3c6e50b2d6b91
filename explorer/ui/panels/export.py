"""Take the compressed model away: formats, what was verified, one zip."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import streamlit as st

import explorer
from explorer.core.errors import ExplorerError
from explorer.core.rules import Quantize
from explorer.export.bundle import FORMATS
from explorer.export.exporters import registry
from explorer.files.limits import shared
from explorer.files.save import compressed_graph, compressed_weights, save_weights
from explorer.models.subject import Subject

from .. import bars
from .. import format as fmt
from ..i18n import _, help_for, translated
from ..state import Workspace
from .scoreboard import kind_name, metric_name, split_name

CODES = ("onnx-int8", "onnx-int4", "packed")  # formats whose files hold codes of few bits
IN_MEMORY = 512 << 20  # bytes of weights up to which they are sent by the browser


def render(space: Workspace, subject: Subject) -> None:
    """Choose formats, export, look at the checks, download."""
    recipe = space.history.present
    names = list(explorer.exporters())
    formats = st.pills(_("Formats"), names, default=[name for name in names if name in FORMATS], selection_mode="multi", key="formats")
    left, right = st.columns([2, 3], gap="large")
    with left:
        for name in formats:
            st.caption(f"**{name}** · {help_for('exporter', name, registry.help(name)).splitlines()[0]}")
        st.caption(_("Every file is re-loaded and its outputs are compared before it is offered. The test split is read here, once."))
        if formats and any(isinstance(rule, Quantize) for rule in recipe.rules) and not set(formats) & set(CODES):
            st.caption(_("These files hold rounded weights as floats, which makes them no smaller. Few bits are stored by: {formats}.", formats=", ".join(CODES)))
        go = st.button(_("Export"), type="primary", icon=":material/package_2:", disabled=not formats, key="export-go")
    key = (subject.name, recipe.digest, recipe.name, tuple(formats))
    if go:
        _run(subject, space, list(formats), key)
    done = st.session_state.get("exported")
    if done and done["key"] == key:
        with right:
            _result(subject, done)


def weights(space: Workspace, subject: Subject) -> None:
    """Of a model without a forward pass: its weights after the recipe, as one file."""
    st.caption(_("Names, shapes and types stay the original's; load the file into your own class."))
    if subject.card.get("bytes", 0) > IN_MEMORY and not shared():
        _to_path(space, subject)
        return
    if st.button(_("Export"), type="primary", icon=":material/package_2:", key="export-go"):
        data = compressed_weights(subject, space.history.present)
        st.download_button(
            _("Download ({size})", size=fmt.size(len(data))), data, f"{subject.name}-compressed.safetensors", "application/octet-stream",
            icon=":material/download:", on_click="ignore", key="export-weights",
        )  # fmt: skip
        graph = compressed_graph(subject, space.history.present) if subject.card.get("graph") else None
        if graph is not None:
            st.download_button(
                _("Download as ONNX ({size})", size=fmt.size(len(graph))), graph, f"{subject.name}-compressed.onnx", "application/octet-stream",
                icon=":material/download:", on_click="ignore", key="export-graph",
            )  # fmt: skip


def _to_path(space: Workspace, subject: Subject) -> None:
    """A large file is written where it is wanted, a tensor at a time; any other gesture ends it and leaves nothing."""
    path = st.text_input(_("Write to, on this machine"), key="export-path", placeholder="/models/compressed.safetensors")
    if not st.button(_("Export"), type="primary", icon=":material/package_2:", key="export-go", disabled=not path.strip()):
        return
    line = st.empty()
    with line.container(horizontal=True, vertical_alignment="center", wrap=False):
        bar = st.progress(0.0, _("Exporting …"))
        st.button(_("Cancel"), key="export-cancel")

    began = time.perf_counter()

    def progress(done: int, total: int) -> None:
        bar.progress(done / max(1, total), bars.said(_("Exporting …"), time.perf_counter() - began, done, total))

    target = Path(path.strip()).expanduser()
    try:
        save_weights(subject, space.history.present, target, progress)
    finally:
        line.empty()
    st.success(_("Written: {path}, {size}", path=str(target), size=fmt.size(target.stat().st_size)))


def _run(subject: Subject, space: Workspace, formats: list[str], key: tuple) -> None:
    """Write, verify and keep the bundle in this session. Any other gesture, Cancel first of all, ends it."""
    line = st.empty()  # a container cannot be emptied
    with line.container(horizontal=True, vertical_alignment="center", wrap=False):
        bar = st.progress(0.0, _("Exporting …"))
        st.button(_("Cancel"), key="export-cancel")  # a click starts a new run, which ends this one at the next step
    folder = Path(tempfile.mkdtemp(prefix="explorer-")) / f"{subject.name}-compressed"
    began = time.perf_counter()

    def progress(done: int, total: int) -> None:
        bar.progress(min(1.0, done / max(1, total)), bars.said(_("Exporting …"), time.perf_counter() - began, done, total))

    try:
        device = st.session_state.get("device")
        bundle = explorer.export(subject, space.history.present, folder, formats=formats, device=device, progress=progress)
        st.session_state["exported"] = {
            "key": key, "files": dict(bundle.files), "checks": dict(bundle.checks), "zip": bundle.zip_bytes(),
            "report": bundle.report, "original": explorer.evaluate(subject, split=bundle.report.split, device=device),
            "notes": tuple(bundle.notes), "agreements": dict(bundle.agreements),
        }  # fmt: skip
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)
        line.empty()


def _result(subject: Subject, done: dict) -> None:
    checks = done["checks"]
    table = {
        _("file"): list(done["files"]),
        _("bytes on disk (measured)"): [f"{size:,}" for size in done["files"].values()],
        _("largest difference after re-loading"): [f"{checks[name]:.1e}" if name in checks else "" for name in done["files"]],
    }
    same = {name: one.same for name, one in done["agreements"].items() if one.same is not None}
    if same:
        table[_("answers as simulated")] = [fmt.percent(same[name], 2) if name in same else "" for name in done["files"]]
    st.dataframe(table, hide_index=True, column_config={_("bytes on disk (measured)"): st.column_config.TextColumn(alignment="right")})
    report, original = done["report"], done["original"]
    main = report.main
    shown, was = report.figure(main), original.figure(main)
    st.markdown(
        f"**{metric_name(main)}** · {split_name(was.split or '')} · n = {was.n:,} · {kind_name(was.kind)}: "
        f"{fmt.metric(main, was.value)} → **{fmt.metric(main, shown.value)}**"
    )
    for note in done["notes"]:
        st.caption(translated(note))
    st.download_button(
        _("Download all as zip ({size})", size=fmt.size(len(done["zip"]))), done["zip"], f"{subject.name}-compressed.zip", "application/zip",
        type="primary", icon=":material/download:", on_click="ignore", key="export-zip",
    )  # fmt: skip
