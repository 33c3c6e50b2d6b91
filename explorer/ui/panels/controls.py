"""The few controls beside the histogram. They show what the recipe says for the selected layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import streamlit as st

import explorer
from explorer.analysis.costs import registry as costs
from explorer.analysis.criteria import FAMILIES, registry
from explorer.core.errors import ExplorerError
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.core.rules import GATE, LAYER_PRUNE, UNIT_PRUNE, WEIGHT_PRUNE, WEIGHT_QUANTIZE, block, pattern
from explorer.models.subject import Subject

from .. import edits, units
from ..edits import Settings
from ..i18n import _, help_for
from ..state import Workspace

PATTERNS = ("2:4", "1:4", "4:8")
RUNS = "N:M"
MULTIPLES = (1, 4, 8, 16)


@dataclass(frozen=True)
class Scene:
    """What every control needs: whose recipe, which layer, what the handle acts with."""

    space: Workspace
    subject: Subject
    layer: Layer
    settings: Settings

    @property
    def key(self) -> str:
        """Widgets are drawn anew when the recipe changed by other means."""
        return f"{self.space.generation}-{self.layer.name}"

    def push(self, recipe: Recipe) -> None:
        """One undo step."""
        self.space.replace(self.space.history.push(recipe))


def current(space: Workspace, subject: Subject, layer: Layer) -> Settings:
    """The settings that the handle acts with. Where nothing is cut yet, a criterion that cannot score the layer gives way to l1."""
    recipe = space.live or space.history.present
    chosen = space.chosen
    if chosen.granularity == "layer" and not subject.blocks:  # chosen for another model
        chosen = replace(chosen, granularity="weight")
    found = edits.settings_of(recipe, subject.layers, layer, chosen)
    if edits.prune_rule(recipe, subject.layers, layer.name, found.granularity) is None and not _fits(subject, layer, found):
        return replace(found, criterion="l1")
    return found


def _fits(subject: Subject, layer: Layer, settings: Settings) -> bool:
    """Whether the chosen criterion can score the layer at the chosen granularity."""
    if settings.criterion not in registry:
        return False
    places = [str(layer.group) if settings.granularity == "unit" else layer.name]
    if settings.granularity == "layer":  # blocks are scored by the weights within
        places = [name for one in subject.blocks for name in one.producers]
    entry = registry[settings.criterion]()
    return all(entry.is_compatible(subject, place) is None for place in places)


def render(scene: Scene) -> None:
    """Draw the controls; callbacks commit one step each."""
    from . import bits

    layer, settings, subject = scene.layer, scene.settings, scene.subject
    recipe = scene.space.history.present
    group = next((one for one in subject.groups if one.name == layer.group), None)
    depth = ["layer"] if subject.blocks else []
    names = {"layer": _("blocks (depth)"), "weight": _("weights"), "unit": units.many(group.kind if group else ""), RUNS: RUNS, GATE: _("gates")}
    shown = RUNS if pattern(settings.granularity) else settings.granularity
    blocks = [shown] if block(shown) else []
    gates = [GATE] if edits.has_gates(layer) else []
    _choice(scene, _("Prune"), "granularity", ["weight", *(["unit"] if group else []), *depth, RUNS, *gates, *blocks], shown, names)
    if pattern(settings.granularity):
        _choice(scene, _("Pattern"), "pattern", list(dict.fromkeys([*PATTERNS, settings.granularity])), settings.granularity)
    if settings.granularity == "unit":
        _choice(scene, _("Multiple of"), "multiple", list(dict.fromkeys([*MULTIPLES, settings.multiple])), settings.multiple)
    modes = ["hard", "scale"] + (["shrink"] if settings.granularity == "weight" and settings.criterion == "l1" else [])
    if settings.granularity != "layer":
        _choice(scene, _("Mode"), "mode", modes, settings.mode, {"hard": _("hard"), "scale": _("soft"), "shrink": _("shrink")})
    base, _slash, cost = settings.criterion.partition("/")
    criteria = [name for name in by_family() if name == base or _fits(subject, layer, replace(settings, criterion=name))]
    titles = {name: f"{criterion_title(name)} · {family_name(registry[name].family)}" for name in criteria}
    _choice(scene, _("Ranked by"), "criterion", criteria, base, titles, select=True)
    if settings.granularity not in (GATE, "layer"):  # blocks are always ranked together
        _choice(scene, _("Applies to"), "scope", ["layer", "global"], settings.scope, {"layer": _("this layer"), "global": _("all layers")})
    if settings.scope == "global" and settings.granularity not in (GATE, "layer") or cost:  # within one layer everything costs the same
        able = ["", *(name for name in costs if name == cost or _fits(subject, layer, replace(settings, criterion=f"{base}/{name}")))]
        _choice(scene, _("Divided by"), "cost", able, cost, {"": _("nothing")} | {name: _(costs[name].title) for name in costs})
    bits.render(scene)
    _where_from(scene)
    ruled = any(edits.rule_for(recipe, subject.layers, layer.name, kind) for kind in (WEIGHT_PRUNE, UNIT_PRUNE, LAYER_PRUNE, WEIGHT_QUANTIZE))
    with st.container(horizontal=True, gap="small"):
        st.button(
            _("Same for all like this"), key=f"like-{scene.key}", disabled=not ruled, on_click=lambda: scene.push(_like(scene)),
            help=_("Give every layer of the same kind this sparsity, pattern and bits."),
        )  # fmt: skip
        st.button(_("Clear layer"), key=f"clear-{scene.key}", disabled=not ruled, on_click=lambda: scene.push(_cleared(scene)))


def _cleared(scene: Scene) -> Recipe:
    """Without the layer's rules; where blocks are shown, without the cut of the block around it."""
    recipe = scene.space.history.present
    if scene.settings.granularity != "layer":
        return recipe.clear(scene.layer.name)
    around = [name for group in scene.subject.blocks if scene.layer.name in group.producers for name in group.producers]
    return recipe.clear(list(dict.fromkeys(around)) or scene.layer.name, kind=LAYER_PRUNE)


def criterion_title(name: str) -> str:
    """A criterion's short name on screen."""
    base, slash, cost = name.partition("/")
    return _(registry[base].title) + (f" / {_(costs[cost].title)}" if slash else "")


def by_family() -> list[str]:
    """The criteria, one family after another."""
    return sorted(registry, key=lambda name: (FAMILIES.index(registry[name].family), name))


def family_name(family: str) -> str:
    """A family of criteria on screen."""
    names = {
        "magnitude": _("weights"), "gradient": _("gradient"), "second order": _("second order"), "activation": _("activation"),
        "structure": _("structure"), "reference": _("reference"), "own": _("your own"),
    }  # fmt: skip
    return names.get(family, family)


def criterion_help(name: str) -> str:
    """What a criterion does, its formula and source; and of a cost that it is divided by."""
    base, slash, cost = name.partition("/")
    text = help_for("criterion", base, registry.help(base))
    return f"{text}\n\n{help_for('cost', cost, costs.help(cost))}" if slash else text


def row(label: str, explained: str, widget: Callable[[], object]) -> None:
    """A control with its name; what it means appears on hover (the widget's own label is for screen readers)."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"):
        st.html(f'<abbr class="x-term x-label" title="{escape(explained)}">{escape(label)}</abbr>', width="content")
        widget()


def _help(field: str, settings: Settings) -> str:
    if field == "mode":
        return "\n\n".join(help_for("term", name, "") for name in ("hard pruning", "soft pruning", "shrinkage operator"))
    if field == "criterion":
        return criterion_help(settings.criterion.partition("/")[0])
    if field == "cost":
        cost = settings.criterion.partition("/")[2] or "mac"
        return help_for("cost", cost, costs.help(cost))
    return help_for("term", {"pattern": "granularity", "multiple": "unit multiple"}.get(field, field), "")


def _choice(
    scene: Scene, label: str, field: str, options: Sequence[Any], value: Any, names: Mapping[str, str] | None = None, select: bool = False
) -> None:  # fmt: skip
    key = f"{field}-{scene.key}"

    def changed() -> None:
        picked = st.session_state.get(key)
        if picked is not None:
            _changed(scene, field, picked)

    def widget() -> None:
        shown = value if value in options else options[0]
        show = (lambda o: names.get(o, o)) if names else str
        if select:
            st.selectbox(label, options, index=list(options).index(shown), format_func=show, key=key, label_visibility="collapsed", width=220, on_change=changed)
        else:
            st.segmented_control(label, options, default=shown, format_func=show, key=key, label_visibility="collapsed", required=True, on_change=changed)

    row(label, _help(field, scene.settings), widget)


def _changed(scene: Scene, field: str, picked: Any) -> None:
    """A control was set: the layer's cut is carried over to the new settings, as one step."""
    settings, base, layers = scene.settings, scene.space.history.present, scene.subject.layers
    if field == "granularity" and picked == RUNS:
        picked = PATTERNS[0]
    if field in ("criterion", "cost"):  # one name for both: "taylor/mac"
        base_name, _slash, cost = settings.criterion.partition("/")
        base_name, cost = (picked, cost) if field == "criterion" else (base_name, picked)
        field, picked = "criterion", f"{base_name}/{cost}" if cost else base_name
    new = replace(settings, **{"granularity" if field == "pattern" else field: picked})  # type: ignore[arg-type]
    if not _fits(scene.subject, scene.layer, new) and field != "criterion":
        new = replace(new, criterion="l1")
    if new.granularity == "layer":
        new = replace(new, mode="hard")
    if new.mode == "shrink" and (new.criterion != "l1" or new.granularity != "weight"):
        new = replace(new, mode="hard")
    scene.space.chosen = new
    if field == "granularity" and not pattern(picked):
        if picked != GATE and edits.prune_rule(base, layers, scene.layer.name, picked) is not None:
            scene.space.chosen = edits.settings_of(base, layers, scene.layer, new)
        if pattern(settings.granularity) or block(settings.granularity) or GATE in (picked, settings.granularity):
            base = base.clear(edits.ALL if settings.scope == "global" else scene.layer.name, kind=WEIGHT_PRUNE)
        scene.push(base)
        return
    share = _fraction(scene, base, new.granularity)
    changed = edits.with_settings(base, layers, scene.layer, new, share)
    nothing = share <= 0 and not pattern(new.granularity)  # a mask of ones is another plan than none
    if field == "scope" and (nothing or _same(scene.subject, base, changed)):
        scene.space.replace(scene.space.history.amend(changed))
    else:
        scene.push(changed)


def _same(subject: Subject, one: Recipe, other: Recipe) -> bool:
    """Whether two recipes come to the same."""
    try:
        return explorer.resolve(subject, one).digest == explorer.resolve(subject, other).digest
    except ExplorerError:  # said when the page is drawn
        return False


def _where_from(scene: Scene) -> None:
    """Say so when the layer follows a rule that was made for several layers, though not for all."""
    recipe, layers, name = scene.space.history.present, scene.subject.layers, scene.layer.name
    shown = edits.kind_of(scene.settings.granularity)
    for kind in (shown, WEIGHT_QUANTIZE):
        rule = edits.rule_for(recipe, layers, name, kind)
        if rule is not None and rule.targets not in ((edits.ALL,), (name,)) and len(rule.targets) + ("*" in "".join(rule.targets)) > 1:
            st.caption(_("Follows a rule for {targets}; a change here is for this layer alone.", targets=", ".join(rule.targets)))
            return


def _fraction(scene: Scene, recipe: Recipe, granularity: str) -> float:
    """The fraction of the layer's units, or of its weights that remain, which the recipe cuts or attenuates."""
    plan = explorer.resolve(scene.subject, Recipe(tuple(r for r in recipe.rules if r.kind != "keep")))
    if granularity == "layer":
        return len(plan.removed) / max(len(scene.subject.blocks), 1)
    if granularity != "unit":
        return float(plan.cut_fraction(scene.layer.name))
    group = next((one for one in scene.subject.groups if one.name == scene.layer.group), None)
    if group is None:
        return 0.0
    if group.name in plan.kept:
        return 1 - len(plan.kept[group.name]) / group.units
    rule = edits.prune_rule(recipe, scene.subject.layers, scene.layer.name, "unit")
    return (rule.sparsity or 0.5) if rule is not None else 0.0


def _like(scene: Scene) -> Recipe:
    recipe = scene.space.history.present
    sparsity = {kind: _fraction(scene, recipe, name) for kind, name in ((UNIT_PRUNE, "unit"), (WEIGHT_PRUNE, "weight"))}
    return edits.same_for_all_like(recipe, scene.subject.layers, scene.layer, sparsity)
