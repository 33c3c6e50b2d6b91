"""The bundle's README: how it was made, what was measured, how to load it."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from importlib import metadata

from ..compress.plan import Plan
from ..core.recipe import Recipe
from ..core.report import Figure, Report
from ..models.samples import samples
from ..models.subject import Subject
from .agreement import Agreement
from .lineage import lineage

MASKS = "masks.safetensors"
LIBRARIES = ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime", "numpy")


def libraries() -> dict[str, str]:
    """Versions of what took part."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def number(value: float | None) -> str:
    """Five significant digits, plainly."""
    if value is None or not math.isfinite(value):
        return "undefined"
    return f"{value:.5g}" if abs(value) < 1e5 else f"{value:,.0f}"


def interval(figure: Figure) -> str:
    """``0.91 to 0.93``, or a dash where none is defined."""
    if figure.low is None or figure.high is None:
        return "-"
    return f"{number(figure.low)} to {number(figure.high)}"


def _scores(before: Report, after: Report) -> list[str]:
    kind = next(iter(after.figures.values())).kind
    lines = [
        f"On the **{after.split}** split, n = {after.n:,} samples, {kind}, {after.precision}. Fractions, not percent.",
        "Intervals are 95 %; a dash means that none is defined for this metric.",
        "",
        "| metric | original | this model | interval | change (paired) | interval of the change |",
        "|---|---|---|---|---|---|",
    ]
    for name, figure in after.figures.items():
        change = after.changes.get(name)
        moved = (f"{change.value:+.4g}", interval(change)) if change else ("-", "-")
        original = number(before.figures[name].value) if name in before.figures else "-"
        lines.append(f"| {name} | {original} | {number(figure.value)} | {interval(figure)} | {moved[0]} | {moved[1]} |")
    return lines


def _costs(before: Report, after: Report) -> list[str]:
    rows: list[tuple[str, float | None, float | None]] = [
        ("parameters", before.parameters, after.parameters),
        ("of these not zero", before.nonzero, after.nonzero),
        ("sparsity of the weights", before.sparsity, after.sparsity),
        ("multiply-accumulates a sample, dense", before.macs, after.macs),
        ("bytes, every tensor in its smallest form", before.bytes, after.bytes),
        *((f"bytes, {name}", before.sizes[name], after.sizes[name]) for name in after.sizes if name != "smallest"),
    ]
    lines = ["| counted | original | this model |", "|---|---|---|"]
    for name, first, second in rows:
        shown = [
            number(v) if name.startswith("sparsity") else "unknown" if v is None else f"{v:,}" for v in (first, second)
        ]
        lines.append(f"| {name} | {shown[0]} | {shown[1]} |")
    return lines


def _agreed(agreements: Mapping[str, Agreement]) -> list[str]:
    """Files that round more than the recipe does, beside the simulation of what they stand for."""
    if not agreements:
        return []
    lines = [
        "## Files of integers",
        "",
        "These files stand for the recipe plus the rounding that their format adds. Each was run on every sample of the split in",
        "ONNX Runtime, beside the simulation of exactly that (measured). Relative error: root mean square of the outputs'",
        "differences over that of the outputs.",
        "",
        "| file | split | n | same predictions | relative error | metric | this file | simulation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file, one in agreements.items():
        same = "-" if one.same is None else f"{one.same:.2%}"
        main = next(iter(one.figures))
        shown = number(one.figures[main].value), number(one.simulated[main].value)
        lines.append(f"| {file} | {one.split} | {one.n:,} | {same} | {one.error:.2g} | {main} | {shown[0]} | {shown[1]} |")
    return [*lines, ""]


def _origin(subject: Subject) -> str:
    if subject.card and subject.name in samples():
        return f'subject = explorer.load("{subject.name}")'
    task = f"task: your explorer.Task ({subject.task.kind}), with the data"
    if source := str(subject.card.get("source", "")) if subject.card else "":
        return f"subject = explorer.load({source!r}, task)  # {task}"
    return f"subject = explorer.Subject(module, task)  # module: as it was trained; {task}"


def readme(
    subject: Subject,
    recipe: Recipe,
    plan: Plan,
    reports: Mapping[str, tuple[Report, Report]],
    checks: Mapping[str, float],
    notes: tuple[str, ...],
    used: Mapping[str, str],
    measured: Mapping[str, int],
    agreements: Mapping[str, Agreement],
) -> str:
    """The text of README.md. reports: {split: (original, compressed)}, the one to be quoted last."""
    split = list(reports)[-1]
    before, after = reports[split]
    lines = [f"# {subject.name}, compressed", ""]
    if recipe.name:
        lines += [f"Recipe: {recipe.name}", ""]
    lines += ["## Scores", ""]
    if split != "test":
        lines += [
            "**Validation only**: the task has no test split, so the scores below helped to choose this model.",
            "",
        ]
    lines += [*_scores(before, after), "", "## Size and cost", "", *_costs(before, after), ""]
    lines += ["| file | bytes on disk, measured |", "|---|---|"]
    lines += [f"| {name} | {size:,} |" for name, size in measured.items()]
    lines += [
        "",
        "safetensors, ONNX and torch.export files store every weight densely as floats: zeros and few bits make them neither",
        "smaller nor faster. ONNX files of integers hold codes of 8 or 4 bits, zeros included; a packed file alone leaves zeros",
        "out, and takes its full size again when it is loaded. The counted bytes say what a format for sparse or quantized",
        "weights needs, without file headers. Removed units are gone from every file.",
        *([f"Removed whole, so that what their residual carries passes them by: {', '.join(plan.removed)}."] if plan.removed else []),
        "",
        "## Verified",
        "",
        "Each file was loaded again and run on real inputs at batch sizes 1, 2 and 5, beside the compressed module",
        "(one that holds weights only was compared tensor by tensor). Largest difference, max|a - b| / max(1, max|a|):",
        "",
        *(f"- {name}: {gap:.1e}" for name, gap in checks.items()),
        "",
    ]
    lines += _agreed(agreements)
    if notes:
        lines += ["## Please note", "", *(f"- {note}" for note in notes), ""]
    lines += lineage(subject)
    lines += ["## Load it", ""]
    for title, code in used.items():
        lines += [f"{title}:", "", "```python", code, "```", ""]
    if MASKS in measured:
        lines += [
            f"`{MASKS}` holds a bool tensor for each pruned layer, True where the weight stays, in the shapes of",
            "this model: multiply the weights by it after each training step to keep the sparsity.",
            "",
        ]
    lines += [
        "## How it was made",
        "",
        "```python",
        "import explorer",
        "",
        _origin(subject),
        f"recipe = {recipe.to_python()}",
        'explorer.export(subject, recipe, "out")',
        "```",
        "",
        "The same recipe is in `recipe.json`, every figure in `report.json`.",
        "",
        f"- recipe {recipe.digest}, plan {plan.digest}, original weights {subject.digest}",
        f"- {', '.join(f'{name} {version}' for name, version in libraries().items())}",
        "",
    ]
    return "\n".join(lines)
