"""The controls for quantization: bits, and a popover with everything else about levels and activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

import explorer
from explorer.compress.calibrate import sites
from explorer.compress.observers import registry as observers
from explorer.compress.quantizers import registry as quantizers
from explorer.core.errors import ExplorerError
from explorer.core.rules import BIAS_CORRECTION, EQUALIZE, FOLD, Quantize
from explorer.evaluate.evaluator import glance
from explorer.evaluate.macs import count
from explorer.models.chains import chains

from .. import edits
from .. import format as fmt
from ..i18n import _, help_for
from ..state import user
from .controls import Scene, row
from .scoreboard import metric_name

FULL = "fp32"  # as it is: shown by the name of the type that it has
BITS = (16, 8, 7, 6, 5, 4, 3, 2, 1)
USUAL = (8, 6, 5, 4, 3, 2)
GROUPS = (16, 32, 64, 128)


def render(scene: Scene) -> None:
    """Draw the controls; a change is one undo step."""
    rule = edits.quantize_rule(scene.space.history.present, scene.subject.layers, scene.layer.name)
    entry = quantizers[rule.quantizer if rule else "minmax"]
    offered = [n for n in BITS if n in entry.bits and (n in USUAL or len(entry.bits) == 1 or n == 1)]
    options: list[Any] = [FULL, *dict.fromkeys([*offered, *([rule.bits] if rule else [])])]

    def picked() -> None:
        value = st.session_state.get(f"bits-{scene.key}")
        if value is not None:
            _weights(scene, rule, bits=value)

    row(_("Bits"), help_for("term", "fake quantization", ""), lambda: st.segmented_control(
        _("Bits"), options, default=rule.bits if rule else FULL, format_func=lambda one: scene.layer.dtype if one == FULL else str(one), key=f"bits-{scene.key}", label_visibility="collapsed",
        required=True, on_change=picked,
    ))  # fmt: skip
    row(_("Levels"), help_for("term", "levels", ""), lambda: _popover(scene, rule))
    if scene.space.live is None:  # a drag is not kept waiting
        _effects(scene)


def _popover(scene: Scene, rule: Quantize | None) -> None:
    granularities = {
        "tensor": _("per tensor"),
        "channel": _("per channel"),
        "group": _("per group"),
        "gate": _("per gate"),
    }
    title = _(quantizers[rule.quantizer].title) + ", " + granularities[rule.granularity] if rule else _("as they are")
    popover = st.popover(title, width=212, key="levels", on_change="rerun")
    if not popover.open:  # its twenty elements would go along with every release of the handle
        return
    with popover:
        st.caption(_("Weights"))
        _weight_controls(scene, rule, granularities)
        st.caption(_("Activations"))
        _activation_controls(scene)
        _preparation_controls(scene)


def _select(
    scene: Scene,
    label: str,
    explained: str,
    name: str,
    options: Sequence[Any],
    value: Any,
    names: Mapping[Any, str],
    off: bool = False,
) -> Any:
    """A labelled select box; returns its key."""
    key = f"quantize-{name}-{scene.key}"
    row(label, explained, lambda: st.selectbox(
        label, options, index=list(options).index(value), format_func=lambda one: names.get(one, str(one)), key=key,
        label_visibility="collapsed", width=190, disabled=off, on_change=_changed, args=(scene, name, key),
    ))  # fmt: skip
    return key


def _weight_controls(scene: Scene, rule: Quantize | None, granularities: Mapping[str, str]) -> None:
    name = rule.quantizer if rule else "minmax"
    entry, off = quantizers[name], rule is None
    _select(scene, _("Quantizer"), help_for("quantizer", name, quantizers.help(name)), "quantizer", list(quantizers), name,
        {one: _(quantizers[one].title) for one in quantizers}, off)  # fmt: skip
    gates = scene.layer.kind in ("lstm", "gru", "rnn")
    listed = [one for one in entry.granularities if one != "gate" or gates]
    chosen = rule.granularity if rule else "channel" if "channel" in listed else listed[0]
    _select(
        scene,
        _("Scales"),
        help_for("term", f"per {chosen}", ""),
        "granularity",
        list(dict.fromkeys([*listed, chosen])),
        chosen,
        granularities,
        off,
    )
    if chosen == "group" and rule:
        sizes = list(dict.fromkeys([*GROUPS, rule.group_size]))
        _select(scene, _("Group size"), help_for("term", "per group", ""), "group_size", sizes, rule.group_size, {})
    if len(entry.schemes) > 1:
        scheme = rule.scheme if rule else "symmetric"
        _select(
            scene,
            _("Scheme"),
            help_for("term", scheme, ""),
            "scheme",
            list(entry.schemes),
            scheme,
            {"symmetric": _("symmetric"), "affine": _("affine")},
            off,
        )


def _activation_controls(scene: Scene) -> None:
    why = sites(scene.subject).get(scene.layer.name)
    if why:
        st.caption(_("Not for this layer: {why}", why=why))
        return
    rule = edits.activation_rule(scene.space.history.present, scene.subject.layers, scene.layer.name)
    bits: list[Any] = [FULL, *dict.fromkeys([*USUAL, *([rule.bits] if rule else [])])]
    _select(
        scene,
        _("Bits of activations"),
        help_for("term", "activation quantization", ""),
        "activation",
        bits,
        rule.bits if rule else FULL,
        {FULL: scene.layer.dtype},
    )
    name = rule.quantizer if rule else "minmax"
    _select(scene, _("Observer"), help_for("observer", name, observers.help(name)), "observer", list(observers), name,
        {one: _(observers[one].title) for one in observers}, rule is None)  # fmt: skip
    if rule and count(scene.subject, {}).between:
        st.caption(
            _(
                "Products of two activations (attention's scores, and their softmax with the values) stay in floats: no weight takes part."
            )
        )
    if rule and rule.clip:
        st.caption(
            _(
                "Clipped by hand to {low} … {high}; choosing an observer undoes it.",
                low=f"{rule.clip[0]:.4g}",
                high=f"{rule.clip[1]:.4g}",
            )
        )


def _preparation_controls(scene: Scene) -> None:
    recipe = scene.space.history.present
    known, now = chains(scene.subject), edits.preparations(recipe, scene.subject.layers, scene.layer.name)
    offered = [BIAS_CORRECTION]
    if any(one.consumer for one in known):
        offered.insert(0, EQUALIZE)
    if any(one.norm for one in known):
        offered.insert(0, FOLD)
    key = f"prepare-{scene.key}"
    st.caption(_("Before rounding, in the whole model"))
    st.pills(
        _("Preparation"), list(dict.fromkeys([*offered, *now])), default=list(now), selection_mode="multi", format_func=step_name,
        key=key, label_visibility="collapsed", help="\n\n".join(help_for("term", one, "") for one in offered),
        on_change=lambda: scene.push(edits.prepare(recipe, st.session_state.get(key) or [])),
    )  # fmt: skip


def _effects(scene: Scene) -> None:
    """What correcting biases and equalizing gain or lose here: the same recipe with and without, on the same samples."""
    recipe, layers, subject = scene.space.history.present, scene.subject.layers, scene.subject
    now = edits.preparations(recipe, layers, scene.layer.name)
    device, who = st.session_state.get("device"), user()
    for step in (EQUALIZE, BIAS_CORRECTION):
        if step not in now or not any(isinstance(one, Quantize) for one in recipe.rules):
            continue
        try:
            without = glance(
                subject, edits.prepare(recipe, [one for one in now if one != step]), device=device, user=who
            )
            with_it = explorer.evaluate(subject, recipe, samples=without.n, device=device, user=who)
        except ExplorerError:
            continue  # said beside the histogram
        name = with_it.main
        before, after = without.metrics[name], with_it.metrics[name]
        st.caption(
            _(
                "{step}: {metric} {before} → {after} ({change}), n = {n}",
                step=step_name(step), metric=metric_name(name), before=fmt.metric(name, before), after=fmt.metric(name, after),
                change=fmt.change(name, after - before), n=f"{with_it.n:,}",
            ),
            help=_("Measured on validation: this recipe without the step, and with it. It does not help every model, so compare."),
        )  # fmt: skip


def step_name(step: str) -> str:
    """A preparation's name on screen."""
    return {FOLD: _("fold BatchNorm"), EQUALIZE: _("equalize layers"), BIAS_CORRECTION: _("correct biases")}[step]


def _changed(scene: Scene, name: str, key: str) -> None:
    """A select box was set."""
    value, recipe, layers = st.session_state.get(key), scene.space.history.present, scene.subject.layers
    if value is None:
        return
    if name in ("activation", "observer"):
        rule = edits.activation_rule(recipe, layers, scene.layer.name)
        bits, observer = rule.bits if rule else 8, rule.quantizer if rule else "minmax"
        bits, observer = (value, observer) if name == "activation" else (bits, value)
        scene.push(
            edits.activations(recipe, scene.layer, _scope(scene, rule), None if bits == FULL else bits, observer)
        )
        return
    _weights(scene, edits.quantize_rule(recipe, layers, scene.layer.name), **{name: value})


def _scope(scene: Scene, rule: Quantize | None) -> str:
    everywhere = rule.targets == (edits.ALL,) if rule else scene.settings.scope == "global"
    return "global" if everywhere else "layer"


def _weights(scene: Scene, rule: Quantize | None, **changed: Any) -> None:
    """Change one setting of the weights' rule; those that the quantizer does not have follow it."""
    recipe = scene.space.history.present
    wanted: dict[str, Any] = {
        "bits": 8,
        "quantizer": "minmax",
        "scheme": "symmetric",
        "granularity": "channel",
        "group_size": edits.GROUP,
    }
    if rule:
        wanted |= {name: getattr(rule, name) for name in wanted if getattr(rule, name) is not None}
    wanted |= changed
    entry = quantizers[wanted["quantizer"]]
    if wanted["bits"] == FULL:
        wanted["bits"] = None
    elif wanted["bits"] not in entry.bits:
        wanted["bits"] = min(entry.bits, key=lambda n: abs(n - wanted["bits"]))
    if wanted["scheme"] not in entry.schemes:
        wanted["scheme"] = entry.schemes[0]
    if wanted["granularity"] not in entry.granularities:
        wanted["granularity"] = entry.granularities[0]
    scene.push(edits.quantize(recipe, scene.layer, _scope(scene, rule), **wanted))
