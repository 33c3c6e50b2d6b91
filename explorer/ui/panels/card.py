"""What a model is: where it comes from, how it is judged, what can be removed from it and what cannot, with the reason."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import glance
from explorer.models.subject import Subject

from .. import counted, models
from .. import format as fmt
from .. import units as kinds
from ..i18n import _, help_for, translated
from ..state import show, user, workspace
from . import status
from .scoreboard import metric_name, split_name


def render(subject: Subject) -> None:
    """The card, in a popover; sent when it is opened, since its tables would go along with every release of the handle."""
    card = subject.card
    popover = st.popover(_("About"), icon=":material/info:", width="content", key="about", on_change="rerun")
    if not popover.open:
        return
    with popover:
        st.markdown(f"**{subject.name}**")
        if subject.parent is not None:
            _origin(subject)
        if card.get("summary"):
            st.write(help_for("card", subject.name, str(card["summary"])))
        if card.get("source"):
            st.markdown(f"{card['source']} · {card['format']} · {fmt.size(card['bytes'])}")
            if card.get("digest"):
                st.caption(f"SHA-256 {card['digest']}")
            for note in card.get("notes", ()):
                st.caption(translated(note))
        parameters = sum(p.numel() for p in subject.module.parameters())
        st.markdown(counted.size(parameters, len(subject.layers)))
        st.markdown(f"**{_('Evaluation')}** · {tier(subject)}")
        for key, label in (("architecture", _("Architecture")), ("data", _("Data")), ("licence", _("Licence")), ("training", _("Training"))):
            if card.get(key):
                value = card[key]
                text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
                st.markdown(f"**{label}** · {text}")
        scores = card.get("scores") or {}
        if scores and subject.parent is None:
            st.caption(_("Scores, measured when it was trained; n is the number of samples"))
            st.dataframe({split: {k: v for k, v in values.items()} for split, values in scores.items()})
        st.caption(_("What can be removed, and what cannot"))
        st.dataframe(rows(subject), hide_index=True)


def _origin(subject: Subject) -> None:
    """How a subject came from its parent, and at what cost."""
    parent, entry = subject.parent, subject.history[-1]
    assert parent is not None
    seen = entry.after.get(entry.metric)
    said = [what(entry.what), *([counted.epochs(entry.epochs)] if entry.epochs else []), fmt.duration(entry.seconds)]
    said.append(counted.evaluations(entry.evaluations))
    if entry.energy is not None:
        said.append(f"{fmt.significant(entry.energy)} J")
    if seen is not None and entry.metric in entry.damaged:
        before = entry.damaged[entry.metric].value
        said.append(f"{metric_name(entry.metric)} {fmt.metric(entry.metric, before)} → {fmt.metric(entry.metric, seen.value)} ({split_name(seen.split or 'validation')}, n = {seen.n:,})")
    st.caption(_("From {parent}", parent=parent.name) + ": " + " · ".join(said))


def what(done: str) -> str:
    """How a model was recovered, on screen."""
    names = {"fine-tuning": _("Fine-tuning"), "distillation": _("Distillation"), "recalibration": _("Recalibration"), "taken back": _("trained elsewhere")}
    return names.get(done, done)


def parent(subject: Subject) -> None:
    """Of a recovered model: the button that goes back to the one that it came from, as damaged as it was."""
    if subject.parent is None or not subject.history:
        return
    entry = subject.history[-1]
    if st.button(subject.parent.name, icon=":material/arrow_back:", key="open-parent", help=_("Back to {parent}, from which this model was recovered", parent=subject.parent.name)):
        name = models.name_of(subject.parent)
        fresh = not workspace(name).history.past and not workspace(name).history.present.rules
        show(name, entry.recipe if fresh else None)
        st.rerun()


def tier(subject: Subject) -> str:
    """How the model is evaluated."""
    if subject.task.kind == "weights":
        return _("none: weights only")
    names = {
        "classification": _("classes"), "regression": _("numbers"), "language_model": _("next token"),
        "agreement": _("agreement with the original's own outputs"),
    }  # fmt: skip
    said = [_("every forward pass, on {splits}", splits=", ".join(subject.task.splits)), names.get(subject.task.kind, _("a score of your own"))]
    with suppress(ExplorerError):  # said on the page
        machine = glance(subject, Recipe(), device=st.session_state.get("device"), user=user()).machine
        if machine:
            said.append(status.tier_name(machine["tier"]) + (f" ({translated(machine['reason'])})" if machine["reason"] else ""))
    return " · ".join(said)


def rows(subject: Subject) -> dict[str, list]:
    """A table: layer, kind, shape, units that can be removed, or why they cannot."""
    groups = {group.name: group for group in subject.groups}
    units = [groups[layer.group].units if layer.group in groups else 0 for layer in subject.layers]
    why = ["" if n else translated(subject.structure.refused.get(layer.name, "")) for n, layer in zip(units, subject.layers, strict=True)]
    return {
        _("layer"): [layer.name for layer in subject.layers],
        _("kind"): [kinds.layer(layer.kind) for layer in subject.layers],
        _("shape"): [" × ".join(map(str, layer.shape)) for layer in subject.layers],
        _("removable units"): units,
        _("why not"): why,
    }
