"""What layers and a group's units are called on screen: heads of attention, hidden units of a recurrent layer, channels ..."""

from __future__ import annotations

from explorer.models.subject import Subject

from .i18n import _


def layer(kind: str) -> str:
    """A kind of layer; lstm, gru and rnn are called so everywhere."""
    names = {
        "conv": _("conv"), "conv_transpose": _("transposed conv"), "linear": _("linear"), "embedding": _("embedding"), "attention": _("attention"), "other": _("other"),
    }  # fmt: skip
    return names.get(kind, kind)


def one(kind: str) -> str:
    """A unit of a group of this kind."""
    names = {"neuron": _("neuron"), "hidden": _("hidden unit"), "head": _("head"), "width": _("feature")}
    return names.get(kind, _("channel"))


def many(kind: str) -> str:
    """The units of a group of this kind."""
    names = {"neuron": _("neurons"), "hidden": _("hidden units"), "head": _("heads"), "width": _("features")}
    return names.get(kind, _("channels"))


def kind_of(subject: Subject, group: str | None) -> str:
    """The kind of a group by its name, "" where there is none."""
    return next((one.kind for one in subject.groups if one.name == group), "")
