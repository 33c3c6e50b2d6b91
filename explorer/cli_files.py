"""Commands about files of weights of any size: what is in one, and how two differ. Neither is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from .core.errors import LoadError
from .core.message import say
from .terminal import bar, show, table

LARGE = 256 << 20  # bytes of weights from which on a file is looked at tensor by tensor instead of as a model
File = Annotated[
    Path, typer.Argument(help="a .safetensors file, a folder with shards and their index, or another model file")
]


def inspect_file(path: Path, header: bool) -> bool:
    """The table of a large safetensors file or sharded checkpoint; False for anything else. header: without reading a weight."""
    from .files.inspect import headers, streamed

    found = streamed(path, 0 if header else LARGE)
    if found is None:
        return False
    if not found.entries:
        raise LoadError(say("{path}: no tensors in it", path=path))
    if header:
        data = headers(found)
        how = "counted from the header; no weight was read"
    else:
        from .files.statistics import file_statistics

        with bar(f"reading {path.name}") as progress:
            data = file_statistics(path, progress=progress)
        how = "counted; quantiles of |w|"
    columns = {"tensor": "layer"} | {name: name for name in data.columns if name != "tensor"}
    rows = [
        [_shown(name, value) for name, value in zip(data.columns, row, strict=True)]
        for row in data.itertuples(index=False)
    ]
    show(table(f"{path.name}: tensors ({how})", columns.values(), rows))
    from .files.header import FLOATING

    floating = int(data["entries"][data["dtype"].isin(FLOATING)].sum())
    zeros = ""
    if not header:
        share = (data["sparsity"] * data["entries"])[data["dtype"].isin(FLOATING)].sum() / max(floating, 1)
        zeros = f", sparsity {100 * share:.2f} %"
    typer.echo(
        f"counted: {len(data):,} tensors, {floating:,} floating entries, {int(data['bytes'].sum()):,} bytes{zeros}"
    )
    return True


def compare_files(
    a: File,
    b: File,
    every: Annotated[bool, typer.Option("--all", help="equal tensors, too")] = False,
) -> None:
    """Compare two checkpoints tensor by tensor: what is missing, and how far the rest is apart."""
    from .files.differences import EQUAL
    from .files.differences import compare_files as compare

    with bar(f"comparing {a.name} and {b.name}") as progress:
        data = compare(a, b, progress=progress)
    shown = data if every else data[data["state"] != EQUAL]
    rows = [
        [_shown(name, value) for name, value in zip(data.columns, row, strict=True)]
        for row in shown.itertuples(index=False)
    ]
    columns = ["layer" if name == "tensor" else name.replace("_", " ") for name in data.columns]
    if rows:
        show(table(f"{a.name} (a) and {b.name} (b): tensors (counted)", columns, rows))
    states = data["state"].value_counts()
    typer.echo("counted: " + (", ".join(f"{n:,} {state}" for state, n in states.items()) or "no tensors"))


def _shown(column: str, value: object) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "-"
    if column.startswith("shape"):
        return "x".join(map(str, value)) or "-"  # type: ignore[call-overload]
    if column.startswith(("sparsity", "changed")):
        return f"{100 * float(value):.2f} %"  # type: ignore[arg-type]
    if isinstance(value, float):
        return f"{value:.6f}" if column == "cosine" else f"{int(value):,}" if column == "not_finite" else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
