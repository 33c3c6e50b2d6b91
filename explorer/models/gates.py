"""The gates of LSTMs and GRUs: which rows of which tensors are theirs."""

from __future__ import annotations

from ..core.errors import UnsupportedError
from ..core.message import say
from .subject import Subject

GATES = {  # in torch's order of rows
    "lstm": ("input", "forget", "cell", "output"),
    "gru": ("reset", "update", "new"),
}


def gate_names(subject: Subject, name: str) -> tuple[str, ...]:
    """The gates whose rows make up a layer's tensor, from top to bottom in equal blocks; () where it has none."""
    layer = next(layer for layer in subject._plain_layers if layer.name == name)
    last = name.rpartition(".")[2]
    return GATES.get(layer.kind, ()) if last.startswith(("weight_ih", "weight_hh")) else ()


def gates_of(subject: Subject, name: str) -> int:
    """How many gates a layer's tensor has. Raises :class:`UnsupportedError` for one without."""
    found = gate_names(subject, name)
    if not found:
        able = [layer.name for layer in subject._plain_layers if gate_names(subject, layer.name)]
        raise UnsupportedError(
            say(
                "{name} has no gates; granularity='gate' is accepted for: {able}",
                name=name,
                able=", ".join(able) or "none of this model's layers",
            )
        )
    return len(found)
