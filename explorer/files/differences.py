"""Two checkpoints tensor by tensor: what is missing, what changed, and by how much. Safetensors are never loaded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis.differences import Difference, differ
from ..analysis.patterns import WORDS, decoded
from ..core.errors import LoadError
from ..core.message import say
from .header import Entry
from .limits import limits, no_paths
from .parallel import in_order
from .sources import Held, Source, checkpoint, is_streamed
from .stream import Cancel, Progress

if TYPE_CHECKING:
    import pandas as pd

    from ..models.subject import Subject

STEP = 1 << 20  # entries of a piece
STATES = EQUAL, CHANGED, SHAPE, ONLY_A, ONLY_B = ("equal", "changed", "other shape", "only in a", "only in b")
COLUMNS = ("tensor", "state", "shape_a", "shape_b", "dtype_a", "dtype_b", "max_abs", "relative_l2", "cosine", "changed", "sparsity_a",
           "sparsity_b")  # fmt: skip


def compare_files(a: str | Path, b: str | Path, *, progress: Progress = None, cancel: Cancel = None) -> pd.DataFrame:
    """Two checkpoints, one row a tensor, by name. Of safetensors, in one file or in shards, a few megabytes are in memory at a time;
    other files are opened as :func:`explorer.load` opens them.

    Columns: tensor; state ("equal", "changed", "other shape", "only in a", "only in b"); shape_a, shape_b, dtype_a, dtype_b;
    max_abs = max |a - b|; relative_l2 = ||a - b|| / ||a||; cosine = a . b / (||a|| ||b||); changed, the fraction of entries whose
    value is another one; sparsity_a, sparsity_b. Values are compared, so that a tensor in another format may be equal.
    ``progress(entries done, of all)``, ``cancel()``. Raises :class:`LoadError`, :class:`Cancelled`.
    """
    return compare_sources(source_of(no_paths(a)), source_of(no_paths(b)), progress=progress, cancel=cancel)


def source_of(path: Path) -> Source:
    """The tensors of a file: streamed where it holds safetensors, else opened."""
    if is_streamed(path):
        return checkpoint(path)
    from .load import open_model

    module = open_model(path, limits()).module
    return Held(dict(module.state_dict()))


def compare_subjects(a: Subject, b: Subject, *, progress: Progress = None, cancel: Cancel = None) -> pd.DataFrame:
    """As :func:`compare_files`, of the original weights of two subjects."""
    held = (Held(dict(one.module.state_dict())) for one in (a, b))
    return compare_sources(*held, progress=progress, cancel=cancel)


def compare_sources(a: Source, b: Source, *, progress: Progress = None, cancel: Cancel = None) -> pd.DataFrame:
    """As :func:`compare_files`, of what was opened already."""
    import pandas as pd

    names = list(dict.fromkeys([*a.entries, *b.entries]))
    found = dict(_differences(a, b, progress, cancel))
    rows = [_row(name, a.entries.get(name), b.entries.get(name), found.get(name)) for name in names]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _differences(a: Source, b: Source, progress: Progress, cancel: Cancel) -> Iterator[tuple[str, Difference]]:
    alike = [
        (e, b.entries[name]) for name, e in a.entries.items() if name in b.entries and b.entries[name].shape == e.shape
    ]
    for entry in (one for pair in alike for one in pair):
        if entry.dtype not in WORDS:
            raise LoadError(
                say("{name}: {dtype} cannot be compared", name=entry.name, dtype=entry.dtype or say("its type"))
            )
    work = [(e, f, start, min(STEP, e.numel - start)) for e, f in alike for start in range(0, max(e.numel, 1), STEP)]
    size, done, total = sum(e.numel for e, _ in alike), 0, Difference()
    results = in_order((partial(_piece, a, b, *one) for one in work), cancel)
    for (entry, _, start, n), found in zip(work, results, strict=True):
        total = total + found if start else found
        done += n
        if start + n >= entry.numel:
            yield entry.name, total
        if progress is not None:
            progress(done, size)


def _piece(a: Source, b: Source, first: Entry, second: Entry, start: int, n: int) -> Difference:
    return differ(
        decoded(a.words(first.name, start, n, 0), first.dtype), decoded(b.words(second.name, start, n, 1), second.dtype)
    )


def _row(name: str, a: Entry | None, b: Entry | None, found: Difference | None) -> dict[str, Any]:
    row: dict[str, Any] = {"tensor": name}
    for side, entry in (("a", a), ("b", b)):
        row |= {f"shape_{side}": entry.shape if entry else None, f"dtype_{side}": entry.dtype if entry else None}
    if found is None:
        return row | {"state": ONLY_B if a is None else ONLY_A if b is None else SHAPE}
    n = max(found.n, 1)
    return row | {
        "state": CHANGED if found.changed else EQUAL, "max_abs": found.largest, "relative_l2": found.relative, "cosine": found.cosine,
        "changed": found.changed / n, "sparsity_a": found.zeros_a / n, "sparsity_b": found.zeros_b / n,
    }  # fmt: skip
