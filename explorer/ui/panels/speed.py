"""Why this size and speed: bytes counted and on disk, measured latency, energy, the roofline, and a sentence for each surprise."""

from __future__ import annotations

import streamlit as st

import explorer
from explorer.core.explanation import Energy, Explanation, Latency
from explorer.figures.roofline import roofline
from explorer.measure.energy import SOURCE, TABLE
from explorer.models.subject import Subject

from .. import bars, jobs, style
from .. import format as fmt
from ..i18n import _, translated
from ..state import Workspace
from .scoreboard import kind_name

NAME = "speed"
TICK = 0.6  # seconds between two looks at the job


def render(space: Workspace, subject: Subject) -> None:
    """A button that measures in the background, and what was measured last."""
    recipe = space.history.present
    key = (subject.name, recipe.digest)
    job = jobs.current(NAME)
    with st.container(horizontal=True, vertical_alignment="center"):
        busy = job is not None and job.running
        go = st.button(_("Measure"), type="primary", icon=":material/speed:", key="speed-go", disabled=busy)
        st.caption(
            _(
                "Writes every format, loads it again, compares it on validation, weighs it and runs it in turn with the original. Takes about a minute."
            )
        )
    if go:
        device = st.session_state.get("device")
        jobs.start(NAME, key, lambda tell, ask: iter([explorer.explain(subject, recipe, device=device, progress=tell, cancel=ask)]))
        st.rerun()
    if job is None or job.key[0] != subject.name:  # type: ignore[index]
        return
    if job.running:
        st.fragment(_watch, run_every=TICK)()
        return
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
    elif job.found:
        if job.key != key:
            st.info(
                _("These figures are of an earlier recipe. Measure again for the present one."),
                icon=":material/history:",
            )
        _show(job.found[0])


def _watch() -> None:
    """Redraws itself until the job has ended, then the page."""
    job = jobs.current(NAME)
    if job is None or not job.running:
        st.rerun()
        return
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        bars.bar(job, _("Measuring …"))
        if st.button(_("Cancel"), key="speed-cancel"):
            job.stop()


def _show(seen: Explanation) -> None:
    left, right = st.container(key="speed-shown").columns([11, 9], gap="large")
    with left:
        _sizes(seen)
        _latencies(seen)
        if seen.roofline is not None:
            _roof(seen)
    with right:
        st.markdown(f"**{_('What may surprise')}**")
        texts = list(dict.fromkeys(translated(one.text) for one in seen.surprises))
        st.markdown(
            "\n".join(f"- {text}" for text in texts) or _("Nothing: size and speed are what the counts suggest.")
        )
        _energy(seen)


def _sizes(seen: Explanation) -> None:
    parts = seen.counted
    named = (
        (_("weights"), parts.weights), (_("indices"), parts.indices), (_("scales"), parts.scales), (_("codebooks"), parts.codebooks),
        (_("biases, norms, buffers"), parts.rest),
    )  # fmt: skip
    shown = " + ".join(f"{name} {size:,}" for name, size in named if size)
    st.markdown(
        f"**{_('Size')}** · {_('counted')}: {parts.total:,} B ({_('original')} {seen.counted_before.total:,} B)"
    )
    st.caption(shown)
    files = [one for one in seen.files if not one.problem]
    table = {
        _("file"): [one.file for one in files],
        _("bytes on disk (measured)"): [f"{one.bytes:,}" for one in files],
        _("smaller"): [f"{one.before / max(1, one.bytes):.2f}×" for one in files],
        _("after gzip"): [f"{one.gzip:,}" for one in files],
    }
    if any(one.agreement is not None for one in files):
        table[_("answers as simulated")] = [
            "" if one.agreement is None else fmt.percent(one.agreement, 2) for one in files
        ]
    st.dataframe(table, hide_index=True, key="speed-sizes")


def _latencies(seen: Explanation) -> None:
    batches = sorted({one.batch for one in seen.latencies})
    rows = list(dict.fromkeys((one.what, one.format, one.engine, one.device) for one in seen.latencies))
    table: dict[str, list[str]] = {_("runs"): [_variant(*row) for row in rows]}
    for batch in batches:
        found = [_of(seen, row, batch) for row in rows]
        unit, scale = ("ms", 1e3) if max(one.median for one in found if one) >= 1e-3 else ("µs", 1e6)
        table[_("batch {n}, {unit}", n=batch, unit=unit)] = [_span(one, scale) for one in found]
        table[_("faster, {n}", n=batch)] = [_ratio(seen, one) for one in found]
    macs = f"{fmt.count(seen.macs_before)} → {fmt.count(seen.macs)}" if seen.macs and seen.macs_before else "?"
    st.markdown(f"**{_('Speed')}** · {_('multiply-accumulates a sample')}: {macs} ({kind_name('counted')})")
    st.dataframe(table, hide_index=True, key="speed-times")
    first = seen.latencies[0] if seen.latencies else None
    if first is not None:
        runs = min(one.runs for one in seen.latencies)
        st.caption(
            _(
                "Medians and quartiles, measured in turn on {device}; threads: {threads}, runs: {runs} or more; faster: than the original in the "
                "same engine.",
                device=" + ".join(dict.fromkeys(one.device for one in seen.latencies)), threads=first.threads, runs=runs,
            )
        )  # fmt: skip


def _variant(what: str, format: str, engine: str, device: str) -> str:
    return f"{_('original') if what == 'original' else format} · {engine}"


def _of(seen: Explanation, row: tuple[str, str, str, str], batch: int) -> Latency | None:
    return next(
        (one for one in seen.latencies if (one.what, one.format, one.engine, one.device) == row and one.batch == batch),
        None,
    )


def _span(one: Latency | None, scale: float) -> str:
    return (
        ""
        if one is None
        else "{} ({}–{})".format(*(fmt.significant(scale * t) for t in (one.median, one.low, one.high)))
    )


def _ratio(seen: Explanation, one: Latency | None) -> str:
    """How many times faster than the original in the same engine on the same device."""
    before = one and next(
        (
            o
            for o in seen.latencies
            if (o.what, o.engine, o.batch, o.device) == ("original", one.engine, one.batch, one.device)
        ),
        None,
    )
    return "" if not one or not before or one.what == "original" else f"{before.median / one.median:.2f}×"


def _energy(seen: Explanation) -> None:
    st.markdown(f"**{_('Energy of one sample')}**")
    for pair in (seen.measured_energy, seen.energy):
        if pair is not None:
            before, after = pair
            st.markdown(f"{_joules(before)} → **{_joules(after)}** · {kind_name(after.kind)} · {after.device}")
    if seen.energy is None:
        st.caption(_("Not estimated: the multiply-accumulates of this model cannot be counted."))
        return
    with st.popover(_("How it is estimated"), icon=":material/table:"):
        st.caption(SOURCE)
        st.dataframe({_("operation"): list(TABLE), "pJ": list(TABLE.values())}, hide_index=True, key="speed-table")
        parts = seen.energy[1].parts
        st.dataframe(
            {_("part"): list(parts), "µJ": [f"{1e6 * value:.3f}" for value in parts.values()]},
            hide_index=True,
            key="speed-parts",
        )


def _joules(one: Energy) -> str:
    unit, scale = next(((u, s) for u, s in (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6)) if one.joules >= s), ("nJ", 1e-9))
    return f"{fmt.significant(one.joules / scale)} {unit} ({fmt.significant(one.low / scale)}–{fmt.significant(one.high / scale)})"


def _roof(seen: Explanation) -> None:
    roof = seen.roofline
    assert roof is not None
    st.markdown(
        f"**{_('Roofline')}** · {_('peak {flops} GFLOP/s, memory {bytes} GB/s', flops=f'{roof.peak / 1e9:.0f}', bytes=f'{roof.bandwidth / 1e9:.1f}')}"
        f" · {kind_name('measured')}"
    )
    drawn = roofline(roof, style.colours(), _("original"), _("compressed"), _("FLOPs a byte"), _("GFLOP/s"))
    st.plotly_chart(drawn, key="speed-roof", config={"displayModeBar": False})
    batch = roof.points[0].batch if roof.points else 0
    st.caption(
        _(
            "Layers in PyTorch, fp32, a batch of {batch}. Left of the bend memory is the bound, right of it computing; a layer whose data stay "
            "in a cache may lie above the slope.",
            batch=batch,
        )
    )
