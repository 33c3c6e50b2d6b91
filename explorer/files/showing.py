"""How the screen shows a sample of a data file, and how an input of one's own becomes one."""

from __future__ import annotations

from collections.abc import Mapping as Named
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from .data import Source
from .scaling import own, top
from .texts import text_of, utf8
from .tokens import Reader

if TYPE_CHECKING:
    from .mapping import Mapping


def shown(source: Source, mapping: Mapping, inputs: Any, reader: Reader | None) -> dict[str, Any]:
    """How the screen shows a sample, and how typed text, a picture or numbers become one."""
    if mapping.parts:
        return _several(source, mapping, inputs)
    if isinstance(inputs, dict):
        assert reader is not None
        return {
            "display": "text",
            "decode": reader.decode,
            "encode": reader.encode if reader.tokenizer is not None else None,
        }
    if not inputs.is_floating_point() and inputs.ndim == 2:
        written = source.columns[mapping.inputs[0]].dtype.kind in "USO"
        if not written:
            return {"display": "text", "decode": lambda ids: " ".join(map(str, ids.reshape(-1).tolist()))}
        length = mapping.length
        return {
            "display": "text", "decode": lambda ids: text_of([int(i) % 256 for i in ids.reshape(-1).tolist()]),
            "encode": lambda text: utf8(np.asarray([text]), length)[0],
        }  # fmt: skip
    display = _display(inputs, mapping)
    more: dict[str, Any] = {"display": display, "labels": mapping.inputs if display == "table" and len(mapping.inputs) > 1 else None}
    if display is not None and mapping.dtype == "float32":
        more["encode"] = own(mapping, top(source.columns[mapping.inputs[0]]) if display == "image" else 1.0)
    return more


def _display(inputs: Tensor, mapping: Mapping) -> str | None:
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3) and inputs.is_floating_point():
        return "image"
    if inputs.is_floating_point():
        return {2: "table", 3: "sequence"}.get(inputs.ndim)
    return None


def _several(source: Source, mapping: Mapping, inputs: Named[str, Tensor]) -> dict[str, Any]:
    """How the screen shows a sample: its picture, text or sequence, else all values by name."""
    kinds = {name: _kind(source, one, inputs[name]) for name, one in mapping.parts}
    for kind in ("image", "text", "sequence"):
        name = next((name for name, found in kinds.items() if found == kind), None)
        if name is not None:
            written = kind == "text"

            def decode(sample: Any, name: str = name, written: bool = written) -> Any:
                value = sample[name] if isinstance(sample, dict) else sample
                return text_of([int(i) % 256 for i in value.reshape(-1).tolist()]) if written else value

            return {"display": kind, "decode": decode}
    return {"display": "table", "decode": values}


def _kind(source: Source, mapping: Mapping, inputs: Tensor) -> str | None:
    if source.columns[mapping.inputs[0]].dtype.kind in "USO" and source.kind != "images":
        return "text"
    if not inputs.is_floating_point():
        return None
    return "image" if inputs.ndim == 4 and inputs.shape[1] in (1, 3) else "sequence" if inputs.ndim == 3 else None


def values(sample: Any) -> dict[str, str]:
    """{input: its first values} of a sample."""
    if not isinstance(sample, dict):
        return {"": str(sample)}
    return {
        name: " ".join(f"{v:.3g}" for v in one.reshape(-1)[:4].tolist()) + (" …" if one.numel() > 4 else "")
        for name, one in sample.items()
        if isinstance(one, Tensor)
    }
