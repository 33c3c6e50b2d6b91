"""Reading what an export wrote: a folder, its zip, or the safetensors file itself."""

from __future__ import annotations

import zipfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..core.errors import LoadError, cause
from ..core.message import say
from .rebuild import parse, rebuild

WEIGHTS = "model.safetensors"
SPEC_KEY, REASON_KEY = "explorer.spec", "explorer.no_spec"
LIMIT = 16 << 30  # bytes that a zip may unpack to
HEADER_LIMIT = 64 << 20


def _bytes_of(path: Path) -> bytes:
    """The safetensors file within a zip; nothing is unpacked to disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == WEIGHTS]
            if len(found) != 1:
                raise LoadError(
                    say(
                        "{path}: the zip holds {count} files named {weights}; accepted: one",
                        path=path,
                        count=len(found),
                        weights=WEIGHTS,
                    )
                )
            if found[0].file_size > LIMIT or found[0].file_size > 1000 * max(found[0].compress_size, 1 << 10):
                raise LoadError(
                    say(
                        "{path}: {weights} would unpack to {size:,} bytes; refused",
                        path=path,
                        weights=WEIGHTS,
                        size=found[0].file_size,
                    )
                )
            return archive.read(found[0])
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise LoadError(say("{path}: the zip cannot be read ({error})", path=path, error=str(error))) from None


def _header(data: bytes, where: object) -> dict[str, str]:
    """The metadata of a safetensors file: 8 bytes of length, then JSON."""
    import json

    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, HEADER_LIMIT):
        raise LoadError(say("{where}: truncated, or no safetensors file", where=where))
    try:
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
        return {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, AttributeError, RecursionError):
        raise LoadError(say("{where}: its header is no safetensors header", where=where)) from None


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of an exported folder, zip or safetensors file. Raises :class:`LoadError`."""
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS
    if not path.is_file():
        raise LoadError(
            say("{path}: no such file; accepted: an exported folder, its zip, or {weights}", path=path, weights=WEIGHTS)
        )
    try:
        data = _bytes_of(path) if path.suffix.lower() == ".zip" else path.read_bytes()
        metadata = _header(data, path)
        return safetensors.torch.load(data), metadata
    except (safetensors.SafetensorError, ValueError, KeyError, OSError) as error:
        raise LoadError(
            say("{path}: cannot be read as safetensors ({cause})", path=path, cause=cause(error, 160))
        ) from None


def load_exported(path: str | Path) -> nn.Module:
    """The exported model as an nn.Module in eval mode, without the class that it was made from.

    path: the export's folder, its zip, or its ``model.safetensors``. Parameters have the names that they had in the
    original. Nothing in the file is executed: the operations it names are looked up in an allow-list.
    Raises :class:`LoadError` for a damaged or hostile file, and where the export holds weights only.
    """
    weights, metadata = read(path)
    if SPEC_KEY not in metadata:
        why = metadata.get(REASON_KEY, say("it was not written by this package"))
        raise LoadError(
            say(
                "{path}: weights only, nothing to rebuild the module from ({why}); load them into your own class",
                path=path,
                why=why,
            )
        )
    try:
        with torch.no_grad():
            return rebuild(parse(metadata[SPEC_KEY]), weights)
    except LoadError as error:
        raise LoadError(say("{path}: {error}", path=path, error=error.message)) from None
    except Exception as error:  # a file made to break the reader is still only a file that cannot be loaded
        raise LoadError(say("{path}: the spec is malformed ({cause})", path=path, cause=cause(error, 160))) from None
