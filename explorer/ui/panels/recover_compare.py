"""Was the teacher worth it? A distillation beside plain fine-tuning from the same start, sample by sample."""

from __future__ import annotations

from html import escape

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.evaluate.paired import Paired, paired
from explorer.models.subject import Subject
from explorer.recover.jobs import DONE, FAILED, Job, jobs
from explorer.recover.orders import Order

from .. import format as fmt
from .. import recovered
from ..i18n import _, help_for, translated
from ..owner import owner
from ..state import user
from .recover_watch import TICK, progress
from .scoreboard import kind_name, metric_name, split_name

KEPT = "recover-compared"  # in the session's state: {which two: a Paired}


def against(before: Subject, after: Subject, key: str) -> Paired:
    """Two subjects on the same validation samples; evaluated once. key: which two."""
    known: dict[str, Paired] = st.session_state.setdefault(KEPT, {})
    if key not in known:
        known[key] = paired(before, after, device=st.session_state.get("device"), user=user())
    return known[key]


def render(subject: Subject, job: Job) -> None:
    """Of a distillation that ran to its end: the button that trains the same without a teacher, then what it came to."""
    if str(job.told["what"]) != "distillation" or job.state != DONE or subject.task.loss is None or job.told["digest"] != subject.digest:
        return
    plain = Order.from_dict(job.told, subject).plain()
    rival = next((one for one in jobs().mine(owner()) if one.key == plain.key), None)
    with st.container(horizontal=True, vertical_alignment="center", key="recover-compare"):
        if rival is None or rival.state not in (DONE, "waiting", "running"):
            if st.button(_("Compare with plain fine-tuning"), icon=":material/compare_arrows:", key=f"compare-{job.id}", help=help_for("term", "distillation", "")):
                _start(plain, job)
            st.caption(_("Trains the same start once more without the teacher: same settings, same seed. Only then one knows what the teacher gave."))
            return
    st.fragment(_draw, run_every=None if rival.over else TICK)(job, rival, rival.over)


def _start(plain: Order, job: Job) -> None:
    st.session_state["recover-job"] = job.id  # the new one is the newest, and this one is looked at
    try:
        jobs().submit(owner(), plain, session=recovered.session(plain.subject))
    except ExplorerError as error:
        st.error(translated(error), icon=":material/error:")
    else:
        st.rerun()


def _draw(job: Job, rival: Job, was_over: bool) -> None:
    if rival.over and not was_over:
        st.rerun()
    if not rival.over:
        st.progress(min(1.0, rival.done / max(1, rival.total)), _("plain fine-tuning: {progress}", progress=progress(rival)))
        return
    if rival.state == FAILED:
        st.error(translated(rival.error), icon=":material/error:")
        return
    with st.spinner(_("Comparing …")):
        mine = recovered.result(job)
        found = against(recovered.result(rival), mine, f"{rival.id}-{job.id}")
    st.html(f'<div class="x-strip" data-compared="{rival.id}"><span>{said(found, found.main in mine.task.lower_is_better)}</span></div>')


def said(found: Paired, lower: bool) -> str:
    """What the teacher gave, as HTML; no gain where the interval does not lie on the better side."""
    metric = found.main
    change = found.changes[metric]
    end = (change.high if lower else change.low) if change.low is not None and change.high is not None else change.value
    better = end is not None and (end < 0 if lower else end > 0)
    shown = " ".join(filter(None, (fmt.change(metric, change.value, change.low, change.high), fmt.half_width(metric, change.low, change.high))))
    values = {
        "metric": metric_name(metric), "distilled": fmt.metric(metric, found.after[metric].value), "plain": fmt.metric(metric, found.before[metric].value),
        "change": shown, "kind": kind_name(change.kind), "split": split_name(change.split or "validation"), "n": f"{found.after[metric].n or 0:,}",
    }  # fmt: skip
    if better:
        text = _("{metric} with the teacher {distilled}, without {plain}: a gain of {change} ({kind} on {split}, paired, n = {n}).", **values)
    else:
        text = _("{metric} with the teacher {distilled}, without {plain}: no gain ({change}; {kind} on {split}, paired, n = {n}).", **values)
    return f'<span class="{"x-better" if better else ""}">{escape(text)}</span>'
