"""The command line: samples, inspect, evaluate, export. Every figure says how it came about."""

from __future__ import annotations

import functools
import io
import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .core.errors import ExplorerError, RecipeError
from .core.message import say
from .core.recipe import Recipe

if TYPE_CHECKING:
    from .core.report import Figure, Report
    from .models.subject import Subject

app = typer.Typer(
    help="See what pruning and quantization do to a model, and export the one you choose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
TEXT = frozenset(
    {
        "name",
        "model",
        "task",
        "score",
        "layer",
        "kind",
        "shape",
        "group",
        "tensors",
        "file",
        "metric",
        "block",
        "state",
        "layers",
    }
)
Name = Annotated[str, typer.Argument(help="a sample model (`samples` lists them), or a model file")]
LARGE = 256 << 20  # bytes of weights above which `inspect` reads the header alone
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="a recipe.json; without it the original model")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest by default")]


def _clearly(command: Callable[..., None]) -> Callable[..., None]:
    """One line on stderr and exit code 2 instead of a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        _utf8()
        try:
            command(*args, **kwargs)
        except (ExplorerError, OSError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None

    return run


def _utf8() -> None:
    """Names may be Chinese; a pipe or a Windows console may not be UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8")


def _show(table: Table) -> None:
    # a pipe has no width: tables are not cut there
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", justify="left" if column in TEXT else "right")
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _load(name: str, recipe: Path | None) -> tuple[Subject, Recipe]:
    from .files.load import load

    if recipe is None:
        return load(name), Recipe()
    try:
        text = recipe.read_bytes()
    except OSError as error:
        raise RecipeError(
            say("{file}: cannot be read ({why}); accepted: a recipe.json", file=recipe, why=error.strerror)
        ) from None
    try:
        made = Recipe.from_json(text)
    except RecipeError as error:
        raise RecipeError(say("{file}: {error}", file=recipe, error=error.message)) from None
    return load(name), made


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


def _interval(figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return "-"
    return f"{_number(figure.low)} .. {_number(figure.high)}"


@app.command()
@_clearly
def samples() -> None:
    """List the bundled sample models."""
    import sample_models

    rows = []
    for name, sample in sample_models.SAMPLES.items():
        try:
            card = sample_models.card(name)
            scores = card["scores"]["test"]
            metric = next(name for name in ("accuracy", "r2", "perplexity") if name in scores)
            score = f"{metric} {_number(scores[metric])} (test, n = {scores['n']:,})"
            rows.append((name, sample.title, sample.task, f"{card['parameters']:,}", score))
        except FileNotFoundError:  # no weights yet
            rows.append((name, sample.title, sample.task, "-", "not trained"))
    _show(
        _table("Sample models; scores as measured at training", ("name", "model", "task", "parameters", "score"), rows)
    )


@app.command()
@_clearly
def inspect(name: Name, recipe: RecipeFile = None) -> None:
    """Show the layers and groups of a model, and what a recipe makes of them. Of a large file: its tensors, at once."""
    if recipe is None and _tensors_of(Path(name)):
        return
    from .compress.resolve import resolve
    from .evaluate.costs import counts

    subject, made = _load(name, recipe)
    plan = resolve(subject, made)
    seen = counts(subject, plan)
    rows = []
    for layer in subject.layers:
        c = seen.layers[layer.name]
        shape = "x".join(map(str, c.shape))
        numbers = (f"{c.remaining:,}", f"{c.nonzero:,}", f"{100 * c.sparsity:.1f} %", c.bits, f"{c.bytes:,}")
        rows.append((layer.name, layer.kind, shape, layer.group or "-", *numbers))
    columns = ("layer", "kind", "shape", "group", "weights", "non-zero", "sparsity", "bits", "bytes")
    _show(_table(f"{subject.name}: layers (counted)", columns, rows))
    units = [
        (g.name, g.kind, g.units, len(plan.kept.get(g.name, range(g.units))), ", ".join(g.members))
        for g in subject.groups
    ]
    if units:
        _show(_table("Groups of units that are removed together", ("group", "kind", "units", "kept", "tensors"), units))
    for group in subject.groups:
        if group.about:
            typer.echo(f"{group.name}: {'; '.join(group.about)}")
    blocks = [(g.name, "removed" if g.name in plan.removed else "kept", ", ".join(g.producers)) for g in subject.blocks]
    if blocks:
        _show(_table("Blocks that can be removed whole (granularity layer)", ("block", "state", "layers"), blocks))
    typer.echo(_counted(seen.parameters, seen.nonzero, seen.sparsity, seen.bytes, seen.macs))


def _tensors_of(path: Path) -> bool:
    """The table of a large safetensors file or sharded checkpoint, from headers alone; False for anything else."""
    from .files.header import FLOATING
    from .files.inspect import headers

    found = headers(path, LARGE) if path.exists() else None
    if found is None:
        return False
    entries = [entry for header in found for entry in header.entries.values()]
    rows = [
        (e.name, "x".join(map(str, e.shape)) or "-", e.dtype, f"{e.numel:,}", f"{e.stop - e.start:,}") for e in entries
    ]
    _show(
        _table(
            f"{path.name}: tensors (counted from the header; no weight was read)",
            ("layer", "shape", "dtype", "entries", "bytes"),
            rows,
        )
    )
    floating = sum(e.numel for e in entries if e.dtype in FLOATING)
    typer.echo(
        f"counted: {len(entries):,} tensors, {floating:,} floating entries, {sum(e.stop - e.start for e in entries):,} bytes"
    )
    return True


def _counted(parameters: int, nonzero: int, sparsity: float, size: int, macs: int | None) -> str:
    products = f"{macs:,}" if macs is not None else "unknown"
    return (
        f"counted: {parameters:,} parameters, {nonzero:,} not zero, sparsity {100 * sparsity:.1f} %, {size:,} bytes, "
        f"{products} multiply-accumulates a sample (dense)"
    )


@app.command()
@_clearly
def evaluate(
    name: Name,
    recipe: RecipeFile = None,
    split: Annotated[str, typer.Option(help="validation, train or test; keep test for the last look")] = "validation",
    precision: Annotated[str, typer.Option(help="full (fp32) or fast (bf16 where that is faster)")] = "full",
    as_json: Annotated[bool, typer.Option("--json", help="everything, as JSON")] = False,
    device: Device = None,
) -> None:
    """Judge a recipe on all samples of a split, beside the original model."""
    from .evaluate.evaluator import evaluate as judge

    subject, made = _load(name, recipe)
    with _progress(f"evaluating {subject.name}") as progress:
        report = judge(subject, made, split=split, precision=precision, device=device, progress=progress)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False, indent=1))
        return
    original = judge(subject, Recipe(), split=split, precision=precision, device=device)
    _show(_scores(original, report))
    typer.echo(_counted(report.parameters, report.nonzero, report.sparsity, report.bytes, report.macs))


def _scores(original: Report, report: Report) -> Table:
    rows = []
    for metric, figure in report.figures.items():
        change = report.changes.get(metric)
        moved = f"{change.value:+.4f}" if change else "-"
        was = _number(original.figures[metric].value)
        rows.append((metric, was, _number(figure.value), _interval(figure), moved, _interval(change)))
    kind = report.figures[report.main].kind
    where = f"{report.split}, n = {report.n:,}, {report.precision}, {report.device}"
    title = f"{report.subject}: {kind} on {where}; 95 % intervals"
    return _table(title, ("metric", "original", "this recipe", "interval", "paired change", "interval"), rows)


@app.command()
@_clearly
def export(
    name: Name,
    out: Annotated[Path, typer.Option(help="a new or an empty folder")],
    recipe: RecipeFile = None,
    formats: Annotated[list[str] | None, typer.Option("--format", help="safetensors, onnx, onnx-int8, onnx-int4, packed, pt2; may be repeated")] = None,
    device: Device = None,
) -> None:
    """Write the compressed model with everything needed to trust and to reuse it. Reads the test split."""
    from .export.bundle import FORMATS
    from .export.bundle import export as write

    subject, made = _load(name, recipe)
    with _progress(f"exporting {subject.name}") as progress:
        bundle = write(subject, made, out, formats or FORMATS, device=device, progress=progress)
    rows = [
        (file, f"{size:,}", f"{bundle.checks[file]:.1e}" if file in bundle.checks else "-")
        for file, size in bundle.files.items()
    ]
    _show(_table(str(bundle.folder), ("file", "bytes on disk (measured)", "largest difference after re-loading"), rows))
    main = bundle.report.figure(bundle.report.main)
    where = f"{main.kind} on {main.split}, n = {bundle.report.n:,}, 95 % interval {_interval(main)}"
    typer.echo(f"{bundle.report.main} {_number(main.value)} ({where})")
    for note in bundle.notes:
        typer.echo(f"note: {note}")


class _progress:
    """A bar on stderr while a terminal is there to see it; ``with _progress("...") as progress``."""

    def __init__(self, label: str) -> None:
        from rich.progress import Progress

        console = Console(file=sys.stderr, highlight=False)
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(label)

    def __enter__(self) -> Callable[[int, int], None]:
        self._bar.start()
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def main() -> None:
    """Run the command line."""
    _utf8()
    app(prog_name="python -m explorer")
