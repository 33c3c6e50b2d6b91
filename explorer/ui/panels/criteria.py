"""Criteria compared: which agree, what each would remove first, and which keeps the accuracy longest."""

from __future__ import annotations

import numpy as np
import streamlit as st

from explorer.analysis.compare import correlations, ranks, table
from explorer.analysis.criteria import registry
from explorer.analysis.gallery import gallery
from explorer.figures import correlation
from explorer.figures import duel as duel_figure
from explorer.figures.units import units as unit_figure
from explorer.models.subject import Subject
from explorer.studies.duel import CEILING, FLOOR, contestants, duel

from .. import bars, jobs, style, units
from ..i18n import _, translated
from ..lists import one_of, some_of
from ..state import Workspace
from . import controls, gates, ready
from .scoreboard import metric_name

START = {
    "weight": ("l1", "snip", "fisher", "wanda", "synflow", "random"),
    "unit": ("l2", "fpgm", "taylor", "relevance", "activation", "random"),
}
DUEL = {"weight": (FLOOR, "l1", "snip", "wanda"), "unit": (FLOOR, "l2", "taylor", "relevance")}
SAMPLES = 2048  # of the validation split, that a point of the duel is measured on
PLAIN = {"displayModeBar": False}


def render(space: Workspace, subject: Subject) -> None:
    """For the selected layer, or its group where units are pruned."""
    layer = subject.layer(space.layer)
    settings = controls.current(space, subject, layer)
    unit = settings.granularity == "unit" and layer.group is not None
    granularity: ready.Granularity = "unit" if unit else "weight"
    place = str(layer.group) if unit else layer.name
    refused = {
        name: why
        for name in controls.by_family()
        if (why := registry[name]().is_compatible(subject, place)) is not None
    }
    able = [name for name in controls.by_family() if name not in refused]
    _agreement(space, subject, place, granularity, able, settings.criterion)
    if refused:
        with st.expander(
            _("Criteria that do not apply to {place} ({n})", place=place, n=len(refused)), icon=":material/block:"
        ):
            st.markdown(
                "\n".join(f"- {_reason(controls.criterion_title(name), translated(why))}" for name, why in refused.items())
            )
    gates.render(subject, layer, settings.criterion)
    if layer.group is not None:
        _gallery(subject, layer.group, settings.criterion)
    _duel(space, subject, granularity)


def _reason(title: str, why: str) -> str:
    """Why a criterion does not apply; most reasons name it themselves."""
    return why if title in why else f"{title}: {why}"


def _picked(label: str, options: list[str], start: tuple[str, ...], key: str) -> list[str]:
    return some_of(label, options, [name for name in start if name in options], _key(key, options), controls.criterion_title)


def _key(key: str, options: list[str]) -> str:
    """Another widget where there is another choice: what was chosen may not be there any more."""
    return f"{key}-{'-'.join(options)}"


def _agreement(
    space: Workspace, subject: Subject, place: str, granularity: ready.Granularity, able: list[str], current: str
) -> None:
    st.markdown("**" + _("Do criteria agree on {layer}?", layer=place) + "**")
    start = tuple(dict.fromkeys([*([current] if current in able else []), *START[granularity]]))[:7]
    names = _picked(_("Criteria"), able, start, f"criteria-{space.model}-{granularity}")
    kind = units.kind_of(subject, place)
    if len(names) < 2:
        st.info(_("Choose two or more."), icon=":material/info:")
        return
    for name in names:
        ready.scored(subject, name, granularity, [place])
    scores = table(subject, place, names)
    left, right = st.columns([3, 2], gap="large")
    titles = {name: controls.criterion_title(name) for name in names}
    with left:
        method = st.segmented_control(
            _("Rank correlation"), ["spearman", "kendall"], default="spearman", required=True, key="criteria-method", label_visibility="collapsed",
            format_func=lambda m: {"spearman": "Spearman ρ", "kendall": "Kendall τ"}[m],
        )  # fmt: skip
        found = correlations(scores, method)
        st.plotly_chart(
            correlation.matrix(found.to_numpy(), list(titles.values()), style.colours()),
            key="criteria-matrix",
            config=PLAIN,
        )
        count = f"{len(scores):,}"
        over = _("Over {n} {units}.", n=count, units=units.many(kind)) if granularity == "unit" else _("Over {n} of the weights.", n=count)
        st.caption(_("1: the same order; 0: unrelated; −1: reversed.") + " " + over)
    with right:
        pair = [
            one_of(word, names, names[i], _key(f"criteria-axis-{i}", names), controls.criterion_title)
            for i, word in enumerate((_("across"), _("upwards")))
        ]
        x, y = ((ranks(scores[name].to_numpy()) - 0.5) / len(scores) for name in pair)
        figure = correlation.scatter(
            x,
            y,
            style.colours(),
            (titles[pair[0]], titles[pair[1]]),
            0.5,
            scores.index.tolist() if granularity == "unit" else None,
            {"unit": units.one(kind)},
        )
        st.plotly_chart(figure, key="criteria-scatter", config=PLAIN)
        torn = float(np.mean((x < 0.5) != (y < 0.5)))
        st.caption(
            _(
                "Ranks, from what goes first. Orange: at half, one would cut it and the other would not ({share}).",
                share=f"{torn:.0%}",
            )
        )


def _gallery(subject: Subject, group: str, current: str) -> None:
    base = current if registry[current]().is_compatible(subject, group) is None else "l1"
    title = controls.criterion_title(base)
    with st.expander(
        _("What {criterion} would remove first from {group}", criterion=title, group=group),
        icon=":material/grid_view:",
        key="gallery-open",
    ):
        ready.scored(subject, base, "unit", [group])
        pictures = gallery(subject, group, base)
        name = units.one(units.kind_of(subject, group))
        st.plotly_chart(unit_figure(pictures, style.colours(), name), key="gallery-figure", config=PLAIN)
        words = {
            "kernels": _("Kernels of each filter, up to 16. Blue: positive, orange: negative; one scale for all."),
            "image": _("The weights on each pixel. Blue: positive, orange: negative; one scale for all."),
            "row": _("The unit's weights, read line by line. Blue: positive, orange: negative; one scale for all."),
            "time": _("The state before each step, on four validation samples."),
            "attention": _("Mean attention on 64 validation samples: rows ask, columns answer."),
        }
        st.caption(words[pictures[0].kind])


def _duel(space: Workspace, subject: Subject, granularity: ready.Granularity) -> None:
    st.markdown("**" + _("Duel: which keeps the model's score longest?") + "**")
    able = [name for name in controls.by_family() if not contestants(subject, [name], granularity)[1]]
    names = _picked(_("Contestants"), able, DUEL[granularity], f"duel-{space.model}-{granularity}")
    slow = [controls.criterion_title(name) for name in names if registry[name].slow]
    note = _(
        "The same sparsities and layers for all, in each layer; {n} validation samples, measured.",
        n=f"{min(SAMPLES, len(subject.task.dataset('validation'))):,}",
    )
    st.caption(note + (" " + _("Slow: {names}.", names=", ".join(slow)) if slow else ""))
    if CEILING in names:
        st.caption(
            _(
                "The dotted “{criterion}” is exact for one unit (or run of weights) that goes alone. When many go together their losses do not add up, so it is no ceiling at high sparsities. Greedy removal with re-scoring is under Sensitivity: error-based pruning.",
                criterion=controls.criterion_title(CEILING),
            )
        )
    device, key = st.session_state.get("device"), (space.model, granularity, tuple(names))
    job = jobs.current("duel")
    with st.container(horizontal=True):
        if st.button(_("Start the duel"), disabled=len(names) < 1, icon=":material/play_arrow:", key="duel-start"):
            job = jobs.start(
                "duel",
                key,
                lambda tell, ask: duel(
                    subject, names, granularity=granularity, samples=SAMPLES, device=device, progress=tell, cancel=ask
                ),
            )
        if job is not None and job.running:
            st.button(_("Stop"), icon=":material/stop:", key="duel-stop", on_click=job.stop)
    if job is not None and job.key[0] == space.model:  # type: ignore[index]
        watch = st.fragment(_watch, run_every=0.5 if job.running else None)
        watch(subject, job)


def _watch(subject: Subject, job: jobs.Job) -> None:
    """The chart so far, drawn again twice a second while the duel goes on."""
    running = job.running
    if running:
        bars.bar(job, _("{done} of {total}", done=job.done, total=job.total or "…"))
    if job.error:
        st.error(translated(job.error), icon=":material/error:")
    elif job.stopped and not running and job.done < job.total:
        st.caption(_("Stopped: {done} of {total}.", done=job.done, total=job.total))
    points = list(job.found)
    if points:
        titles = {name: controls.criterion_title(name) for name in job.key[2]}  # type: ignore[index]
        metric = points[0].metric
        bounded = metric not in ("perplexity", "cross_entropy", "rmse", "mae", "loss")
        whole = points[0].value
        reach = (
            None if bounded else (0.0, 6 * whole) if whole > 0 else None
        )  # a ruined model's loss would flatten all the rest
        if metric == "r2":
            reach = (-0.2, 1.0)
        chart = duel_figure.duel(
            points,
            style.colours(),
            titles,
            metric_name(metric),
            _("sparsity"),
            FLOOR,
            CEILING,
            bounded and metric != "r2",
            reach,
        )
        st.plotly_chart(chart, key="duel-figure", config=PLAIN)
    if not running and st.session_state.get("duel-seen") is not job:
        st.session_state["duel-seen"] = job
        st.rerun()  # the button to stop goes, and the timer with it
