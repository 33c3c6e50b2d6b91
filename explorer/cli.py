"""The command line: samples, inspect, evaluate, export, compare. Every figure says how it came about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .cli_files import compare_files, inspect_file
from .core.errors import LoadError, RecipeError
from .core.message import say
from .core.recipe import Recipe
from .terminal import bar, clearly, number, show, table, utf8

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
Name = Annotated[str, typer.Argument(help="a sample model (`samples` lists them), or a model file")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="a recipe.json; without it the original model")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest by default")]


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


def _interval(figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return "-"
    return f"{number(figure.low)} .. {number(figure.high)}"


@app.command()
@clearly
def samples() -> None:
    """List the bundled sample models."""
    import sample_models

    rows = []
    for name, sample in sample_models.SAMPLES.items():
        try:
            card = sample_models.card(name)
            scores = card["scores"]["test"]
            metric = next(name for name in ("accuracy", "r2", "perplexity") if name in scores)
            score = f"{metric} {number(scores[metric])} (test, n = {scores['n']:,})"
            rows.append((name, sample.title, sample.task, f"{card['parameters']:,}", score))
        except FileNotFoundError:  # no weights yet
            rows.append((name, sample.title, sample.task, "-", "not trained"))
    show(table("Sample models; scores as measured at training", ("name", "model", "task", "parameters", "score"), rows))


@app.command()
@clearly
def inspect(
    name: Name,
    recipe: RecipeFile = None,
    header: Annotated[
        bool, typer.Option("--header", help="of .safetensors: names, types and shapes alone, at once")
    ] = False,
) -> None:
    """Show the layers and groups of a model, and what a recipe makes of them. Of a large file: its tensors, their zeros and sizes."""
    if recipe is None and inspect_file(Path(name), header):
        return
    if header:
        raise LoadError(
            say("{file}: --header; accepted: .safetensors, in one file or in shards with their index", file=name)
        )
    from .compress.resolve import resolve
    from .evaluate.costs import counts

    subject, made = _load(name, recipe)
    with bar("looking for what can be removed") as progress:
        subject.survey(progress=progress)
    plan = resolve(subject, made)
    seen = counts(subject, plan)
    rows = []
    for layer in subject.layers:
        c = seen.layers[layer.name]
        shape = "x".join(map(str, c.shape))
        numbers = (f"{c.remaining:,}", f"{c.nonzero:,}", f"{100 * c.sparsity:.1f} %", c.bits, f"{c.bytes:,}")
        rows.append((layer.name, layer.kind, shape, layer.group or "-", *numbers))
    columns = ("layer", "kind", "shape", "group", "weights", "non-zero", "sparsity", "bits", "bytes")
    show(table(f"{subject.name}: layers (counted)", columns, rows))
    units = [
        (g.name, g.kind, g.units, len(plan.kept.get(g.name, range(g.units))), ", ".join(g.members))
        for g in subject.groups
    ]
    if units:
        show(table("Groups of units that are removed together", ("group", "kind", "units", "kept", "tensors"), units))
    for group in subject.groups:
        if group.about:
            typer.echo(f"{group.name}: {'; '.join(group.about)}")
    blocks = [(g.name, "removed" if g.name in plan.removed else "kept", ", ".join(g.producers)) for g in subject.blocks]
    if blocks:
        show(table("Blocks that can be removed whole (granularity layer)", ("block", "state", "layers"), blocks))
    typer.echo(_counted(seen.parameters, seen.nonzero, seen.sparsity, seen.bytes, seen.macs))


def _counted(parameters: int, nonzero: int, sparsity: float, size: int, macs: int | None) -> str:
    products = f"{macs:,}" if macs is not None else "unknown"
    return (
        f"counted: {parameters:,} parameters, {nonzero:,} not zero, sparsity {100 * sparsity:.1f} %, {size:,} bytes, "
        f"{products} multiply-accumulates a sample (dense)"
    )


@app.command()
@clearly
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
    with bar(f"evaluating {subject.name}") as progress:
        report = judge(subject, made, split=split, precision=precision, device=device, progress=progress)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False, indent=1))
        return
    original = judge(subject, Recipe(), split=split, precision=precision, device=device)
    show(_scores(original, report))
    typer.echo(_counted(report.parameters, report.nonzero, report.sparsity, report.bytes, report.macs))


def _scores(original: Report, report: Report) -> Table:
    rows = []
    for metric, figure in report.figures.items():
        change = report.changes.get(metric)
        moved = f"{change.value:+.4f}" if change else "-"
        was = number(original.figures[metric].value)
        rows.append((metric, was, number(figure.value), _interval(figure), moved, _interval(change)))
    kind = report.figures[report.main].kind
    where = f"{report.split}, n = {report.n:,}, {report.precision}, {report.device}"
    title = f"{report.subject}: {kind} on {where}; 95 % intervals"
    return table(title, ("metric", "original", "this recipe", "interval", "paired change", "interval"), rows)


@app.command()
@clearly
def export(
    name: Name,
    out: Annotated[Path, typer.Option(help="a new or an empty folder")],
    recipe: RecipeFile = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors, onnx, onnx-int8, onnx-int4, packed, pt2; may be repeated"),
    ] = None,
    device: Device = None,
) -> None:
    """Write the compressed model with everything needed to trust and to reuse it. Reads the test split."""
    from .export.bundle import FORMATS
    from .export.bundle import export as write

    subject, made = _load(name, recipe)
    with bar(f"exporting {subject.name}") as progress:
        bundle = write(subject, made, out, formats or FORMATS, device=device, progress=progress)
    rows = [
        (file, f"{size:,}", f"{bundle.checks[file]:.1e}" if file in bundle.checks else "-")
        for file, size in bundle.files.items()
    ]
    show(table(str(bundle.folder), ("file", "bytes on disk (measured)", "largest difference after re-loading"), rows))
    main = bundle.report.figure(bundle.report.main)
    where = f"{main.kind} on {main.split}, n = {bundle.report.n:,}, 95 % interval {_interval(main)}"
    typer.echo(f"{bundle.report.main} {number(main.value)} ({where})")
    for note in bundle.notes:
        typer.echo(f"note: {note}")


app.command("compare")(clearly(compare_files))


def main() -> None:
    """Run the command line."""
    utf8()
    app(prog_name="python -m explorer")
