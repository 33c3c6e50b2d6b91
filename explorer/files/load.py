"""``explorer.load``: a sample by name, or a file by path, as a Subject."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..core.errors import LoadError, cause, near
from ..core.message import Message, say
from ..export.names import MAGIC, PACKED, REASON_KEY, SPEC_KEY
from ..export.rebuild import parse, rebuild
from ..models.samples import load as load_sample
from ..models.samples import samples
from ..models.subject import Subject
from ..models.task import Task
from . import kinds
from .archive import opened
from .child import probe
from .header import parse_header, read_header
from .hf_config import config_writer
from .huggingface import config_text, read_huggingface
from .index import INDEX, read_index
from .limits import Limits, limits, no_paths, shared
from .ordered import in_order
from .packed import read_packed
from .pickles import read_checkpoint
from .program import read_program
from .refused import refuse_kind
from .state import State, state_of
from .weights import weights_only

HASHED = 256 << 20  # bytes of a file up to which its digest is worth the reading
FORMATS = {
    kinds.EXPORT: "export", kinds.SAFETENSORS: "safetensors", kinds.PT2: "torch.export", kinds.CHECKPOINT: "torch.save",
    kinds.PACKED: "packed export",
    kinds.ONNX: "ONNX",
    kinds.HUGGINGFACE: "Hugging Face",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Opened:
    """What a file holds. forward: whether the module can be run, or has weights only. notes: what a reader must know.

    card: more for the subject's card. "reader": how texts become a language model's inputs; "files": what its own format
    keeps beside the weights.
    """

    module: nn.Module
    kind: str
    forward: bool
    notes: tuple[Message, ...] = field(default=())
    card: Mapping[str, Any] = field(default_factory=dict)


def load(source: str | Path, task: Task | None = None, *, name: str | None = None) -> Subject:
    """A subject: a bundled sample model by name, or a model file by path. Nothing in a file is executed.

    source: a name from ``samples()``; or the path of an export (folder, zip, model.safetensors, model.packed), a Hugging Face
    model (folder or zip, with ``pip install transformers``), a .safetensors or sharded checkpoint, a torch.export program (.pt2),
    an .onnx file (or a folder or zip with its external data), or a state dict of torch.save (.pt, .pth, .bin). task: what the
    model is judged
    on, for example ``Task.agreement(inputs)``; without one, and for a plain state dict always, what needs a forward pass
    says so, and everything else works. Repeated calls give the same subject of a sample, and a new one of a file.
    Raises :class:`LoadError`, with the reason and, for formats that are refused, the lines that convert them.
    """
    if isinstance(source, str) and source in samples():
        sample = load_sample(source)
        return sample if task is None else Subject(sample.module, task, name or source, card=sample.card)
    path = Path(source)
    if isinstance(source, str) and not path.exists() and "/" not in source and "\\" not in source and not path.suffix:
        raise LoadError(say("no sample model {name!r}; {hint}", name=source, hint=near(source, samples())))
    return subject_of(no_paths(path), task, name=name)


def load_upload(path: Path, task: Task | None = None, *, name: str | None = None) -> Subject:
    """The subject of a file that somebody sent. On a shared server it is opened in a child process first, and programs
    (.pt2) are not opened at all: their operators were not written for strangers. Raises :class:`LoadError`."""
    if shared():
        if kinds.kind_of(path, limits()) == kinds.PT2:
            raise LoadError(
                say(
                    "{path}: torch.export programs are not opened on a shared server; send the .safetensors of an export",
                    path=path.name,
                )
            )
        probe(path)
    return subject_of(path, task, name=name)


def subject_of(
    path: Path, task: Task | None = None, *, name: str | None = None, within: Limits | None = None
) -> Subject:
    """The subject of a file, for callers that have decided that this path may be opened."""
    found = open_model(path, within or limits())
    if task is None:
        task = Task.weights_only(
            say("{path} came without data", path=path.name)
            if found.forward
            else say("{path} holds weights only, and no forward pass", path=path.name)
        )
    elif not found.forward and task.kind != "weights":
        raise LoadError(
            say(
                "{path}: a task needs a forward pass, and this file holds weights only ({notes}); make the module of your class and use "
                "explorer.Subject(module, task)",
                path=path,
                notes=found.notes[0] if found.notes else say("no structure is stored in it"),
            )
        )
    return Subject(found.module, task, name or path.stem or path.name, card=card_of(path, found))


def open_model(path: Path, within: Limits) -> Opened:
    """The module of a file, whatever its suffix says. Raises :class:`LoadError`."""
    if not path.exists():
        raise LoadError(say("{path}: no such file; accepted: a file, or a name from explorer.samples()", path=path))
    if path.name == INDEX:
        path = path.parent
    try:
        kind = kinds.kind_of(path, within)
        if kind == kinds.PT2:
            return Opened(read_program(path, within), kind, True)
        if kind == kinds.ONNX:
            return _of_onnx(path, within)
        if kind == kinds.CHECKPOINT:
            return _plain(state_of(read_checkpoint(path, within), path), path, kind)
        if kind == kinds.SAFETENSORS:
            return _of_export(read_header(path, within).metadata, _tensors(path), path, kind)
        if kind == kinds.PACKED:
            tensors, metadata = read_packed(path, within)
            return _of_export(metadata, tensors, path, kind)
        if kind == kinds.HUGGINGFACE and (found := read_huggingface(path, within)) is not None:
            more = {"reader": found.reader, "files": found.files, "config": config_writer(config_text(found.files))}
            if found.module is not None:
                return Opened(found.module, kind, True, found.notes, more)
            return _plain(state_of(in_order(found.tensors), path), path, kind, found.notes)
        if kind in (kinds.EXPORT, kinds.HUGGINGFACE):
            plain = _of_folder(path, within) if path.is_dir() else _of_zip(path, within)
            return plain if plain.forward or not _beside(path, within) else _of_onnx(path, within)
    except LoadError:
        raise
    except (OSError, MemoryError, RecursionError) as error:
        raise LoadError(say("{path}: cannot be read ({cause})", path=path, cause=cause(error, 160))) from None
    raise refuse_kind(path, kind)


def _beside(path: Path, within: Limits) -> bool:
    """Whether an export's folder or zip holds the model as ONNX, too: weights alone are less."""
    if path.is_dir():
        return (path / "model.onnx").is_file()
    with opened(path, within) as archive:
        return any(name.rpartition("/")[2] == "model.onnx" for name in archive.members)


def _of_onnx(path: Path, within: Limits) -> Opened:
    from .onnx_file import read_onnx, why_not_run

    module = read_onnx(path, within)
    why = why_not_run(module)
    notes = (*module.graph.notes, *((say("weights only: {why}", why=why),) if why is not None else ()))
    return Opened(module, kinds.ONNX, why is None, notes)


def _tensors(source: Path | bytes, where: object = None) -> dict[str, Tensor]:
    """All tensors; of a file they are mapped, and read when they are used."""
    try:
        found = safetensors.torch.load(source) if isinstance(source, bytes) else safetensors.torch.load_file(source)
        return in_order(found)
    except (safetensors.SafetensorError, ValueError, KeyError, OSError, RuntimeError) as error:
        raise LoadError(
            say("{path}: cannot be read as safetensors ({cause})", path=where or source, cause=cause(error, 160))
        ) from None


def _of_export(metadata: Mapping[str, str], tensors: dict[str, Tensor], path: Path, kind: str) -> Opened:
    """A module where the metadata hold what rebuilds it; else the weights alone."""
    if SPEC_KEY not in metadata:
        why = metadata.get(REASON_KEY)
        notes = (say("exported as weights only: {why}", why=why[:500]),) if why else ()
        tied = {
            name: kept for name, kept in metadata.items() if kept in tensors and name not in tensors and "." in name
        }
        return _plain(state_of(tensors | {name: tensors[kept] for name, kept in tied.items()}, path), path, kind, notes)
    try:
        with torch.no_grad():
            return Opened(rebuild(parse(metadata[SPEC_KEY]), tensors), kinds.EXPORT, True)
    except LoadError as error:
        raise LoadError(say("{path}: {error}", path=path, error=error.message)) from None
    except Exception as error:  # a file made to break the reader is still only a file that cannot be loaded
        raise LoadError(say("{path}: the spec is malformed ({cause})", path=path, cause=cause(error, 160))) from None


def _plain(state: State, path: Path, kind: str, notes: tuple[Message, ...] = ()) -> Opened:
    return Opened(weights_only(state, path), kind, False, notes + state.notes)


def _of_zip(path: Path, within: Limits) -> Opened:
    with opened(path, within) as archive:
        last = {name: name.rpartition("/")[2] for name in archive.members}
        wanted = kinds.WEIGHTS if kinds.WEIGHTS in last.values() else PACKED
        found = [name for name in archive.members if last[name] == wanted]
        if len(found) != 1:
            raise LoadError(
                say(
                    "{path}: the zip holds {count} files named {weights}; accepted: one",
                    path=path,
                    count=len(found),
                    weights=wanted,
                )
            )
        data = archive.read(found[0], within.file)
    if data.startswith(MAGIC):
        tensors, metadata = read_packed(path, within, data)
        return _of_export(metadata, tensors, path, kinds.EXPORT)
    header = parse_header(io.BytesIO(data), len(data), f"{path}/{found[0]}", within)
    return _of_export(header.metadata, _tensors(data, path), path, kinds.EXPORT)


def _of_folder(folder: Path, within: Limits) -> Opened:
    """An export's folder; a checkpoint in one piece, or in shards with their index."""
    index = folder / INDEX
    if (folder / kinds.WEIGHTS).is_file():
        header = read_header(folder / kinds.WEIGHTS, within)
        return _of_export(header.metadata, _tensors(folder / kinds.WEIGHTS), folder, kinds.EXPORT)
    if index.is_file():
        tensors: dict[str, Tensor] = {}
        for shard in read_index(index, within):
            tensors |= _tensors(shard)
        return _plain(state_of(in_order(tensors), folder), folder, kinds.SAFETENSORS)
    if (folder / PACKED).is_file():
        tensors, metadata = read_packed(folder / PACKED, within)
        return _of_export(metadata, tensors, folder, kinds.EXPORT)
    raise LoadError(
        say(
            "{path}: neither {weights} nor {index} nor {packed} in this folder",
            path=folder,
            weights=kinds.WEIGHTS,
            index=INDEX,
            packed=PACKED,
        )
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's weights, in hex."""
    weights = (".safetensors", ".bin", ".onnx", ".packed")
    files = sorted(f for f in path.iterdir() if f.suffix in weights) if path.is_dir() else [path]
    state = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                state.update(block)
    return state.hexdigest()


def card_of(path: Path, found: Opened) -> dict[str, Any]:
    """What the screen says about a file: source, format, size, digest (of one that is read in a second), notes."""
    size = sum(f.stat().st_size for f in path.iterdir() if f.is_file()) if path.is_dir() else path.stat().st_size
    return {
        "source": path.name,
        "format": FORMATS.get(found.kind, found.kind),
        "bytes": size,
        "forward": found.forward,
        "graph": found.kind == kinds.ONNX,
        "notes": found.notes,
        "digest": digest_of(path) if size <= HASHED else "",
        **found.card,
    }
