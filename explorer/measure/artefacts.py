"""Exported files of a recipe and of the original: written, compared, weighed, and opened to be run."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..compress.apply import compress
from ..compress.resolve import resolve
from ..core.errors import Cancelled, ExplorerError
from ..core.explanation import FileSize
from ..core.message import say
from ..core.recipe import Recipe
from ..export.exporters import Exporter, registry
from ..export.writing import agreement, write
from ..models.subject import Subject

ORT, TORCH = "ONNX Runtime", "PyTorch"


@dataclass(frozen=True, eq=False)
class Artefact:
    """A verified file. what: "original" or "compressed". module: the file, opened, on the CPU."""

    what: str
    format: str
    engine: str
    size: FileSize
    module: nn.Module


def gzipped(data: bytes) -> int:
    """Bytes after ``gzip -9``."""
    return len(gzip.compress(data, 9, mtime=0))


@contextmanager
def artefacts(
    subject: Subject,
    recipe: Recipe,
    formats: Sequence[str],
    cancel: Callable[[], bool] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[tuple[list[Artefact], list[FileSize]]]:
    """(files that can be run, all files of the recipe with their sizes or the problem); gone after the block.

    Each is written as :func:`explorer.export` does, into a folder of its own, loaded again and compared; formats that only
    agree with a simulation are compared on all validation samples. The original comes as ONNX and as safetensors.
    """
    plain = {name: "onnx" if name.startswith("onnx") else "safetensors" for name in formats}
    wanted = [("original", name) for name in dict.fromkeys(plain.values())] + [("compressed", name) for name in formats]
    made: list[Artefact] = []
    sizes: list[FileSize] = []
    before: dict[str, FileSize] = {}
    with tempfile.TemporaryDirectory(prefix="explorer-", ignore_cleanup_errors=True) as folder:
        for i, (what, name) in enumerate(wanted):
            if cancel is not None and cancel():
                raise Cancelled(say("measuring was cancelled"))
            if progress is not None:
                progress(i, len(wanted))
            place = Path(folder) / f"{what}-{name}"
            place.mkdir()
            try:
                one = _make(
                    subject,
                    Recipe() if what == "original" else recipe,
                    what,
                    name,
                    place,
                    before.get(plain.get(name, "")),
                    cancel,
                )
            except Cancelled:
                raise
            except ExplorerError as error:
                if what == "compressed":
                    sizes.append(_failed(name, error.message))
                continue
            made.append(one)
            if what == "original":
                before[name] = one.size
            else:
                sizes.append(one.size)
        yield made, sizes


def _failed(name: str, why: str = "") -> FileSize:
    return FileSize(name, registry[name].filename, problem=why)


def _make(
    subject: Subject, recipe: Recipe, what: str, name: str, place: Path, before: FileSize | None, cancel: Callable[[], bool] | None
) -> Artefact:  # fmt: skip
    exporter = registry[name]()
    plan = resolve(subject, exporter.meaning(subject, recipe))
    module = compress(subject, plan).to("cpu")
    notes: list[str] = []
    write(exporter, name, subject, plan, module, place, notes)
    same = agreement(exporter, subject, plan, module, place, cancel, None).same if exporter.simulated else None
    data = (place / exporter.filename).read_bytes()
    size = FileSize(
        name, exporter.filename, len(data), gzipped(data), before.bytes if before else len(data),
        before.gzip if before else gzipped(data), same, tuple(notes),
    )  # fmt: skip
    return Artefact(what, name, ORT if name.startswith("onnx") else TORCH, size, _opened(exporter, module, place))


def _opened(exporter: Exporter, module: nn.Module, place: Path) -> nn.Module:
    """The file as something to run; a file of weights alone is run as the module that they belong to."""
    try:
        return exporter.loaded(place)
    except ExplorerError:
        return module
