"""What the columns of a data file look like to a model: a mapping to begin with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from .data import PICTURES, Source
from .mapping import Mapping
from .tokens import Reader

TARGETS = ("y", "label", "labels", "target", "targets", "class", "tags", "ner_tags", "y_test", "y_train")


def propose(source: Source, reader: Reader | None = None) -> Mapping:
    """What the columns look like: the target by its name, else the last column; classes where it has few values. reader: of a
    language model, whose head says what is judged."""
    names = list(source.columns)
    texts = [n for n in names if source.columns[n].dtype.kind in "USO"] if source.kind in ("table", "text") else []
    likely = [n for n in names if n.lower() in TARGETS]
    target = likely[0] if likely else names[-1] if len(names) > 1 else None
    inputs = tuple(n for n in names if n != target)
    if source.kind == "table":
        numbers = tuple(n for n in inputs if source.columns[n].dtype.kind in "biuf")
        written = tuple(n for n in texts if n != target) or tuple(texts)
        inputs = written[:1] if written and (reader is not None or not numbers) else numbers
    elif inputs:
        named = tuple(n for n in inputs if n in ("input_ids", "attention_mask", "token_type_ids", "position_ids"))
        inputs = named or inputs[:1]
    target = None if target in inputs else target
    values = source.columns[target] if target else np.empty(0)
    few = (
        values.dtype.kind in "USObiu"
        and values.ndim == 1
        and len(np.unique(values)) <= max(2, min(1000, source.n // 2))
    )
    kind = "agreement" if target is None else "classification" if few else "regression"
    first = source.columns[inputs[0]] if inputs else values
    if reader is not None:
        kind = "agreement" if target is None and reader.head != "language_model" else reader.head
        target = None if kind in ("language_model", "agreement") else target
        return Mapping(inputs, target, kind, dtype="int64", length=_usual_length(first, reader))
    return Mapping(inputs, target, kind, **looks_like(source, inputs, texts))


def looks_like(source: Source, inputs: Sequence[str], texts: Sequence[str] | None = None) -> dict[str, Any]:
    """shape, dtype and scale of input columns. texts: columns that hold texts."""
    if not inputs:
        return {"shape": (), "dtype": "float32", "scale": 1.0}
    first = source.columns[inputs[0]]
    pixels = source.kind == "images" or first.dtype == np.uint8 and first.ndim >= 3
    shape: tuple[int, ...] = ()
    if source.kind == "images":
        shape = _picture(first[0])
    elif pixels and first.ndim == 3:
        shape = (1, *first.shape[1:])
    written = first.dtype.kind in "USO" and source.kind != "images" if texts is None else inputs[0] in texts
    integers = written or first.dtype.kind in "iu" and not pixels and source.kind == "arrays"
    return {"shape": shape, "dtype": "int64" if integers else "float32", "scale": 1 / 255 if pixels else 1.0}


def _picture(data: bytes) -> tuple[int, int, int]:
    """(channels, height, width) of the first picture; large ones are made smaller."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
        grey, (width, height) = picture.mode in ("1", "L", "LA", "I;16", "I", "F"), picture.size
    share = min(1.0, 224 / max(width, height))
    return 1 if grey else 3, max(1, round(height * share)), max(1, round(width * share))


def _usual_length(column: np.ndarray, reader: Reader) -> int:
    """Tokens that 19 of 20 texts keep within, of those at the beginning; a multiple of 8."""
    if reader.tokenizer is None or column.dtype.kind not in "USO":
        return min(64, reader.longest)
    lengths = [len(one.ids) for one in reader._encoded([str(text) for text in column[:256]])]
    return int(min(reader.longest, 512, 8 * np.ceil(max(np.quantile(lengths, 0.95), 1) / 8)))
