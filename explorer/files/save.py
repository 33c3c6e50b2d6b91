"""Compressed weights under the names, shapes and types that they came with: as safetensors, and as the ONNX file that they were in."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..analysis.words import FORMATS
from ..compress.apply import compress
from ..compress.build import effective_weights
from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.errors import Cancelled, ExportError
from ..core.message import say
from ..core.recipe import Recipe
from ..export.spec import tensors
from ..models.stored import stored_dtype
from ..models.subject import Subject

Progress = Callable[[int, int], None] | None
Cancel = Callable[[], bool] | None


def compressed_graph(subject: Subject, recipe: Recipe) -> bytes | None:
    """The ONNX file that a subject came as with its weights after the recipe; None for other subjects, and above 1 GB."""
    from ..models.onnx_module import OnnxModule

    module = compress(subject, recipe)
    if (
        not isinstance(module, OnnxModule)
        or sum(t.numel() * t.element_size() for t in module.held().values()) > 1 << 30
    ):
        return None
    from ..export.onnx_own import filled
    from ..export.onnx_tensors import check_model

    model = filled(module)
    check_model(model)
    return bytes(model.SerializeToString())


def compressed_weights(subject: Subject, recipe: Recipe) -> bytes:
    """The file of :func:`write_weights`, in memory."""
    out = io.BytesIO()
    write_weights(subject, recipe, out)
    return out.getvalue()


def save_weights(
    subject: Subject, recipe: Recipe, path: Path, progress: Progress = None, cancel: Cancel = None
) -> None:
    """The file of :func:`write_weights` at a path where there is none yet; nothing is left where it fails."""
    part = path.with_name(path.name + ".part")
    try:
        if path.exists() or not path.parent.is_dir():
            raise ExportError(say("{path}: accepted: a new file in a folder that is there", path=path))
        with part.open("xb") as file:
            write_weights(subject, recipe, file, progress, cancel)
        part.rename(path)
    except OSError as error:
        raise ExportError(say("{path}: cannot be written; accepted: a new file in a folder that you may write to, on a disk with room ({why})", path=path, why=error.strerror or error)) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_weights(
    subject: Subject, recipe: Recipe, out: BinaryIO, progress: Progress = None, cancel: Cancel = None
) -> None:
    """A safetensors file: every parameter and buffer after the recipe, quantized ones as the rounded values; names, shapes and
    types are the original's, but that an 8-bit float whose values changed becomes bfloat16. Its metadata holds the recipe, and for tied names the one that holds the tensor, as
    ``safetensors.torch.save_model`` writes it. Without a forward pass one tensor is made at a time; with one, what is written was
    verified first. ``progress(bytes done, of all)``. Raises :class:`ExportError` for types that the format does not have,
    :class:`Cancelled`.
    """
    plan = resolve(subject, recipe, cancel=cancel)
    alone = subject.task.kind == "weights"
    held, tied = tensors(subject.module if alone else compress(subject, plan))
    about = {"format": "pt", "explorer.recipe": json.dumps(json.loads(recipe.to_json())), **tied}
    rows: dict[str, object] = {"__metadata__": about}
    at = 0
    dtypes = {name: _dtype(subject, plan, name, tensor) for name, (tensor, _) in held.items()}
    for name, (tensor, _) in held.items():
        if dtypes[name] not in FORMATS:
            raise ExportError(say("{name}: {dtype} has no place in safetensors", name=name, dtype=str(tensor.dtype)))
        size = tensor.numel() * dtypes[name].itemsize
        rows[name] = {"dtype": FORMATS[dtypes[name]], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)
    done = 0
    for name, (tensor, _) in held.items():
        for part in _parts(subject, plan, name, tensor) if alone else [tensor]:
            if cancel is not None and cancel():
                raise Cancelled(say("the export was cancelled"))
            done += out.write(
                part.detach().cpu().to(dtypes[name]).contiguous().reshape(-1).view(torch.uint8).numpy().data
            )
            if progress is not None:
                progress(done, at)


def _dtype(subject: Subject, plan: Plan, name: str, tensor: Tensor) -> torch.dtype:
    mine = plan.layers.get(name)
    return stored_dtype(subject.module, name, tensor, mine is not None and mine.moves_values)


def _parts(subject: Subject, plan: Plan, name: str, tensor: Tensor) -> Iterator[Tensor]:
    """The tensor after the plan, without the negative zeros that masking leaves; some entries at a time where a mask is all."""
    mine = plan.layers.get(name)
    if mine is not None and mine.only_bits is not None:
        yield from mine.only_bits.masked(tensor)
    else:
        weights = effective_weights(subject, plan)
        yield weights[name] + 0 if name in weights else tensor
