"""How much of the model a layer or a group is: its share of the parameters and of the multiply-accumulates."""

from __future__ import annotations

from collections.abc import Iterable

from ..evaluate.macs import Macs, count
from ..models.structure import Cut
from ..models.subject import Subject

Share = tuple[float, float | None]


def share_of_layer(subject: Subject, name: str) -> Share:
    """(parameters, MACs) of one weight tensor over the whole model's, both fractions; None where MACs cannot be counted."""
    return _share(subject, {name: subject.weight(name).numel()})


def share_of_group(subject: Subject, cut: Cut) -> Share:
    """(parameters, MACs) that belong to a group's units: the entries that would go with all of them, and the products with these."""
    return _share(subject, {name: _entries(subject, name, dims) for name, dims in _dims(cut).items()})


def _dims(cut: Cut) -> dict[str, dict[int, set[int]]]:
    """{tensor: {dim: indices of any unit}}."""
    out: dict[str, dict[int, set[int]]] = {}
    for piece in cut.slices:
        if piece.role not in ("norm", "attribute"):
            out.setdefault(piece.tensor, {}).setdefault(piece.dim, set()).update(piece.index.reshape(-1).tolist())
    return out


def _entries(subject: Subject, name: str, dims: dict[int, set[int]]) -> int:
    """Entries of a parameter at any of the indices; 0 for a buffer."""
    parameter = dict(subject.module.named_parameters()).get(name)
    if parameter is None:
        return 0
    left = 1
    for dim, size in enumerate(parameter.shape):
        left *= size - len(dims.get(dim, ()))
    return int(parameter.numel() - left)


def _share(subject: Subject, entries: dict[str, int]) -> Share:
    total = sum(parameter.numel() for parameter in subject.module.parameters())
    macs = count(subject, {})
    parameters = sum(entries.values()) / total if total else 0.0
    return parameters, _macs(subject, macs, entries.items()) / macs.total if macs.total else None


def _macs(subject: Subject, macs: Macs, entries: Iterable[tuple[str, int]]) -> float:
    """Every product of a module multiplies an entry of one of its weights: these have their share of its products."""
    owned: dict[str, int] = {}
    for layer in subject.layers:
        if layer.kind != "embedding":
            owned[layer.module] = owned.get(layer.module, 0) + layer.numel
    weights = {layer.name: layer.module for layer in subject.layers if layer.kind != "embedding"}
    return sum(macs.modules.get(weights[name], 0) * n / owned[weights[name]] for name, n in entries if name in weights)
