"""The few controls beside the histogram. They show what the recipe says for the selected layer."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import streamlit as st

import explorer
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.core.report import LayerCount
from explorer.core.rules import UNIT_PRUNE, WEIGHT_PRUNE, pattern
from explorer.models.subject import Subject

from .. import edits
from ..edits import Settings
from ..i18n import _, help_for
from ..state import Workspace

FULL = "fp32"
BITS = (FULL, 8, 6, 5, 4, 3, 2)
PATTERNS = ("2:4", "1:4", "4:8")


def current(space: Workspace, subject: Subject, layer: Layer) -> Settings:
    """The settings that the handle acts with."""
    return edits.settings_of(space.live or space.history.present, subject.layers, layer, space.chosen)


def render(space: Workspace, subject: Subject, layer: Layer, settings: Settings, count: LayerCount) -> None:
    """Draw the controls; callbacks commit one step each."""
    g = f"{space.generation}-{layer.name}"
    recipe = space.history.present

    def granularities() -> list[str]:
        return ["weight", *(["unit"] if layer.group is not None else []), "2:4"]

    group = next((g for g in subject.groups if g.name == layer.group), None)
    unit = unit_name(group.kind if group is not None else "")
    shown = "2:4" if pattern(settings.granularity) else settings.granularity
    _choice(_("Prune"), "granularity", granularities(), shown, g, {"weight": _("weights"), "unit": unit, "2:4": "N:M"}, space, subject, layer, settings, count)
    if pattern(settings.granularity):
        _choice(_("Pattern"), "pattern", list(PATTERNS), settings.granularity, g, {}, space, subject, layer, settings, count)
    modes = ["hard", "scale"] + (["shrink"] if settings.granularity == "weight" and settings.criterion == "l1" else [])
    mode_names = {"hard": _("hard"), "scale": _("soft"), "shrink": _("shrink")}
    _choice(_("Mode"), "mode", modes, settings.mode, g, mode_names, space, subject, layer, settings, count)
    criteria = list(explorer.criteria())
    _choice(_("Ranked by"), "criterion", criteria, settings.criterion, g, {name: criterion_title(name) for name in criteria}, space, subject, layer, settings, count, select=True)
    _choice(_("Applies to"), "scope", ["layer", "global"], settings.scope, g, {"layer": _("this layer"), "global": _("all layers")}, space, subject, layer, settings, count)
    rule = edits.quantize_rule(recipe, subject.layers, layer.name)
    _bits(space, subject, layer, settings, rule, g)
    with st.container(horizontal=True, gap="small"):
        st.button(
            _("Same for all like this"), key=f"like-{g}", help=_("Give every layer of the same kind this sparsity, pattern and bits."),
            disabled=not _has_rules(recipe, subject, layer),
            on_click=lambda: space.replace(space.history.push(_like(space, subject, layer, count))),
        )  # fmt: skip
        st.button(
            _("Clear layer"), key=f"clear-{g}", disabled=not _has_rules(recipe, subject, layer),
            on_click=lambda: space.replace(space.history.push(recipe.clear(layer.name))),
        )  # fmt: skip


def unit_name(kind: str) -> str:
    """What a group's units are called."""
    names = {"neuron": _("neurons"), "hidden": _("hidden units"), "head": _("heads"), "width": _("features")}
    return names.get(kind, _("channels"))


def criterion_title(name: str) -> str:
    """A criterion's short name on screen."""
    from explorer.analysis.criteria import registry

    return _(registry[name].title)


def _help(field: str, settings: Settings) -> str:
    terms = {"granularity": "granularity", "pattern": "granularity", "scope": "scope"}
    if field == "mode":
        return help_for("term", "hard pruning", "") + "\n\n" + help_for("term", "soft pruning", "") + "\n\n" + help_for("term", "shrinkage operator", "")
    if field == "criterion":
        from explorer.analysis.criteria import registry

        return help_for("criterion", settings.criterion, registry.help(settings.criterion))
    return help_for("term", terms[field], "")


def _choice(
    label: str, field: str, options: list[str], value: str, g: str, names: dict[str, str], space: Workspace,
    subject: Subject, layer: Layer, settings: Settings, count: LayerCount, select: bool = False,
) -> None:  # fmt: skip
    key = f"{field}-{g}"

    def changed() -> None:
        picked = st.session_state.get(key)
        if picked is None:
            return
        new = replace(settings, **{"granularity" if field == "pattern" else field: picked})
        if field == "criterion" and new.mode == "shrink" and picked != "l1":
            new = replace(new, mode="hard")
        if field == "granularity" and picked != "weight" and new.mode == "shrink":
            new = replace(new, mode="hard")
        space.chosen = new
        base = space.history.present
        fresh = edits.settings_of(base, subject.layers, layer, new)
        if field == "granularity" and picked != "2:4":
            space.chosen = new if edits.prune_rule(base, subject.layers, layer.name, picked) is None else fresh
            if pattern(settings.granularity):
                base = base.clear("*" if settings.scope == "global" else layer.name, kind=WEIGHT_PRUNE)
            space.replace(space.history.push(base))
            return
        sparsity = _fraction(subject, base, layer, new.granularity)
        space.replace(space.history.push(edits.with_settings(base, subject.layers, layer, new, sparsity)))

    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"):
        _label(label, _help(field, settings))
        value = value if value in options else options[0]
        if select:
            st.selectbox(label, options, index=options.index(value), format_func=lambda o: names.get(o, o), key=key, label_visibility="collapsed", width=212, on_change=changed)
        else:
            st.segmented_control(label, options, default=value, format_func=lambda o: names.get(o, o), key=key, label_visibility="collapsed", required=True, on_change=changed)


def _label(text: str, explained: str) -> None:
    """A control's name; what it means appears on hover (the widget's own label is for screen readers)."""
    st.html(f'<abbr class="x-term x-label" title="{escape(explained)}">{escape(text)}</abbr>', width="content")


def _bits(space: Workspace, subject: Subject, layer: Layer, settings: Settings, rule: object, g: str) -> None:
    bits = getattr(rule, "bits", FULL)
    how = f"{getattr(rule, 'granularity', 'channel')}, {getattr(rule, 'scheme', 'symmetric')}"
    key, how_key = f"bits-{g}", f"how-{g}"
    names = {
        "channel, symmetric": _("per channel, symmetric"), "channel, affine": _("per channel, affine"),
        "tensor, symmetric": _("per tensor, symmetric"), "tensor, affine": _("per tensor, affine"),
    }  # fmt: skip

    def changed() -> None:
        granularity, scheme = st.session_state.get(how_key, how).split(", ")
        scope = "global" if getattr(rule, "targets", ()) == ("*",) or (rule is None and settings.scope == "global") else "layer"
        picked = st.session_state.get(key, bits)
        recipe = edits.quantize(space.history.present, layer, scope, None if picked == FULL else picked, scheme, granularity)
        space.replace(space.history.push(recipe))

    for label, widget in ((_("Bits"), "bits"), (_("Levels"), "how")):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"):
            _label(label, help_for("term", "fake quantization", "") if widget == "bits" else _scheme_help())
            if widget == "bits":
                options = list(BITS) if bits in BITS else [FULL, bits, *BITS[1:]]
                st.segmented_control(label, options, default=bits, format_func=str, key=key, label_visibility="collapsed", required=True, on_change=changed)
            else:
                st.selectbox(label, list(names), index=list(names).index(how), format_func=names.__getitem__, key=how_key, label_visibility="collapsed", width=212, disabled=bits == FULL, on_change=changed)


def _scheme_help() -> str:
    from explorer.compress.quantizers import registry

    return help_for("quantizer", "minmax", registry.help("minmax"))


def _has_rules(recipe: Recipe, subject: Subject, layer: Layer) -> bool:
    return any(edits.rule_for(recipe, subject.layers, layer.name, kind) for kind in ("weight-prune", "unit-prune", "weight-quantize"))


def _fraction(subject: Subject, recipe: Recipe, layer: Layer, granularity: str) -> float:
    """The fraction of the layer's units, or of its weights that remain, which the recipe cuts or attenuates."""
    plan = explorer.resolve(subject, Recipe(tuple(r for r in recipe.rules if r.kind != "keep")))
    if granularity == "unit":
        group = next((g for g in subject.groups if g.name == layer.group), None)
        if group is None:
            return 0.0
        if group.name in plan.kept:
            return 1 - len(plan.kept[group.name]) / group.units
        rule = edits.prune_rule(recipe, subject.layers, layer.name, "unit")
        return (rule.sparsity or 0.5) if rule is not None else 0.0
    return float(plan.cut_fraction(layer.name))


def _like(space: Workspace, subject: Subject, layer: Layer, count: LayerCount) -> Recipe:
    recipe = space.history.present
    sparsity = {kind: _fraction(subject, recipe, layer, name) for kind, name in ((UNIT_PRUNE, "unit"), (WEIGHT_PRUNE, "weight"))}
    return edits.same_for_all_like(recipe, subject.layers, layer, sparsity)
