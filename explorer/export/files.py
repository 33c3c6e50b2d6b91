"""Reading what an export wrote: a folder, its zip, or the safetensors or packed file itself."""

from __future__ import annotations

import zipfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..core.errors import LoadError, cause
from ..core.message import say
from .names import PACKED, REASON_KEY, SPEC_KEY, WEIGHTS
from .packing import container
from .rebuild import parse, rebuild

LIMIT = 16 << 30  # bytes that a zip may unpack to
HEADER_LIMIT = 64 << 20


def _unzipped(path: Path) -> bytes:
    """The content of the safetensors file within a zip, else of its packed file; nothing is unpacked to disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            listed = [(info.filename.rpartition("/")[2], info) for info in archive.infolist()]
            found = [info for name in (WEIGHTS, PACKED) for last, info in listed if last == name]
            n = sum(last == found[0].filename.rpartition("/")[2] for last, _ in listed) if found else 0
            if n != 1:
                raise LoadError(
                    say("{path}: the zip holds {n} files named {name}; accepted: one", path=path, n=n, name=WEIGHTS)
                )
            size = found[0].file_size
            if size > LIMIT or size > 1000 * max(found[0].compress_size, 1 << 10):
                raise LoadError(
                    say("{path}: {name} would unpack to {size:,} bytes; refused", path=path, name=WEIGHTS, size=size)
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


def _content(path: Path, names: tuple[str, ...]) -> bytes:
    """The bytes of a folder, a zip or a file."""
    if path.is_dir():
        path = next((path / name for name in names if (path / name).is_file()), path / names[0])
    if not path.is_file():
        accepted = "an exported folder, its zip, " + " or ".join(names)
        raise LoadError(say("{path}: no such file; accepted: {accepted}", path=path, accepted=accepted))
    try:
        if path.suffix.lower() == ".zip":
            return _unzipped(path)
        return path.read_bytes()
    except OSError as error:
        raise LoadError(say("{path}: cannot be read ({error})", path=path, error=error.strerror or error)) from None


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of an exported folder, zip, safetensors or packed file. Raises :class:`LoadError`."""
    path = Path(path)
    data = _content(path, (WEIGHTS, PACKED))
    if data.startswith(container.MAGIC):
        return _packed(path, data)
    try:
        return safetensors.torch.load(data), _header(data, path)
    except (safetensors.SafetensorError, ValueError, KeyError, OSError) as error:
        raise LoadError(
            say("{path}: cannot be read as safetensors ({cause})", path=path, cause=cause(error, 160))
        ) from None


def _packed(path: Path, data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors, metadata = container.loads(data)
    except LoadError as error:
        raise LoadError(say("{path}: {error}", path=path, error=error.message)) from None
    except Exception as error:  # a file made to break the reader is still only a file that cannot be loaded
        raise LoadError(say("{path}: malformed ({why})", path=path, why=cause(error, 160))) from None
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def read_packed(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a packed file, or of the one in a folder. Raises :class:`LoadError`."""
    path = Path(path)
    return _packed(path, _content(path, (PACKED,)))


def load_packed(path: str | Path) -> dict[str, Tensor]:
    """{name: tensor} of a packed file (or of the one in an exported folder), every bit as it was in the compressed model.

    Nothing in the file is executed, and no more memory is taken than its header states within fixed limits.
    Raises :class:`LoadError` for a damaged or hostile file. :func:`load_exported` makes a module of it.
    """
    return read_packed(path)[0]


def load_exported(path: str | Path) -> nn.Module:
    """The exported model as an nn.Module in eval mode, without the class that it was made from.

    path: the export's folder, its zip, its ``model.safetensors`` or its ``model.packed``. Parameters have the names that they had in the
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
