"""Models of several inputs: what a forward takes by name, and which columns look like that."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from ..models.onnx_module import OnnxModule
from .data import Source
from .propose import looks_like

if TYPE_CHECKING:
    from .mapping import Mapping

MOST = 32  # inputs of one model that a form has room for
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Wanted:
    """One input of a model. dtype: float32, int64 or bool, shape: of one sample, None for any size; both None where only the values
    would tell. needed: whether the forward has no default for it."""

    name: str
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    needed: bool = True


def wanted(module: nn.Module) -> tuple[Wanted, ...]:
    """The inputs of a model's forward that can be given by name, or of an ONNX file's graph."""
    if isinstance(module, OnnxModule):
        kinds = {True: "float32", False: "int64"}
        return tuple(
            Wanted(one.name, kinds[one.dtype.is_floating_point], None if one.shape is None else one.shape[1:])
            for one in module.graph.inputs[:MOST]
        )
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    found = [Wanted(one.name, needed=one.default is one.empty) for one in parameters if one.kind in BY_NAME]
    return tuple(found[:MOST])


def propose_parts(source: Source, inputs: Sequence[Wanted], guess: Mapping) -> Mapping:
    """``guess`` with columns for each input: those of its name, or that begin with it; of the others, arrays in the file's order go
    to the inputs that are needed."""
    free = [name for name in source.columns if name != guess.target]
    chosen: dict[str, tuple[str, ...]] = {}
    for one in inputs:
        same = [name for name in free if name.lower() == one.name.lower()]
        begins = [name for name in free if name.lower().startswith((f"{one.name.lower()}_", f"{one.name.lower()}."))]
        chosen[one.name] = tuple(same or begins)
        free = [name for name in free if name not in chosen[one.name]]
    for one in inputs:
        if one.needed and not chosen[one.name] and free:
            last = all(chosen[other.name] or not other.needed for other in inputs if other is not one)
            numbers = [name for name in free if source.columns[name].dtype.kind in "biuf"]
            chosen[one.name] = tuple(numbers) if last and source.kind == "table" and numbers else (free[0],)
            free = [name for name in free if name not in chosen[one.name]]
    parts = []
    for one in inputs:
        if one.needed or chosen[one.name]:
            part = replace(
                guess, inputs=chosen[one.name], target=None, parts=(), **looks_like(source, chosen[one.name])
            )
            shape = one.shape or ()
            if not part.shape and shape and len(shape) != _rank(source, part):
                part = replace(part, shape=tuple(n for n in shape if n is not None) if None not in shape else ())
            mask = [source.columns[name].dtype.kind for name in part.inputs] == ["b"]
            parts.append((one.name, replace(part, dtype=one.dtype or ("bool" if mask else part.dtype))))
    return replace(guess, inputs=(), parts=tuple(parts))


def _rank(source: Source, part: Mapping) -> int:
    return 1 if len(part.inputs) != 1 else max(1, source.columns[part.inputs[0]].ndim - 1)
