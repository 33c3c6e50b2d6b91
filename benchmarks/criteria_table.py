"""Writes docs/criteria.md: what every criterion keeps of every sample's score at 50, 70 and 90 % sparsity.

python benchmarks/criteria_table.py [NAMES]        all samples, or only the sections of these; takes minutes a sample
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from explorer.analysis.criteria import criteria, registry  # noqa: E402
from explorer.core.recipe import Recipe  # noqa: E402
from explorer.core.report import Figure  # noqa: E402
from explorer.evaluate.evaluator import evaluate  # noqa: E402
from explorer.models.samples import load, samples  # noqa: E402
from explorer.models.subject import Subject  # noqa: E402

TARGET = ROOT / "docs" / "criteria.md"
MARK = "<!-- below: written by python benchmarks/criteria_table.py -->"
SPARSITIES = (0.5, 0.7, 0.9)
SAMPLES = 2048  # of the validation split, at most; an eighth of that of sequences of tokens
COLUMNS = (("weight", "layer", SPARSITIES), ("weight", "global", (0.9,)), ("unit", "layer", SPARSITIES))
HEAD = (
    "| criterion | weights 50 % | 70 % | 90 % | one ranking 90 % | units 50 % | 70 % | 90 % |\n"
    "|---|---|---|---|---|---|---|---|"
)


def places(subject: Subject, granularity: str, names: list[str]) -> list[str]:
    """What all of these criteria can score, so that all prune the same."""
    there = [g.name for g in subject.groups] if granularity == "unit" else [x.name for x in subject.layers]
    for name in names:
        there = [place for place in there if registry[name]().is_compatible(subject, place) is None]
    return there


def able(subject: Subject, granularity: str) -> list[str]:
    """Criteria that can score nearly all of a model; exact loss changes of weights take too long here."""
    whole = [g.name for g in subject.groups] if granularity == "unit" else [x.name for x in subject.layers]
    found = []
    for name in criteria():
        if granularity == "weight" and name in ("loss-change", "loss-slope"):
            continue
        fits = sum(registry[name]().is_compatible(subject, place) is None for place in whole)
        if whole and fits >= max(1, len(whole) - 1):
            found.append(name)
    return found


def text(figure: Figure, metric: str) -> str:
    """A value with its interval, in points for fractions."""
    if figure.value != figure.value or abs(figure.value) == float("inf"):
        return "undefined"
    scale = 1.0 if metric in ("perplexity", "rmse", "mae", "cross_entropy") else 100.0
    value = f"{scale * figure.value:.1f}" if abs(scale * figure.value) < 10_000 else f"{figure.value:.0e}"
    if figure.low is None or figure.high is None or value.endswith(("e+", "e-")):
        return value
    return (
        f"{value} ({scale * figure.low:.1f} to {scale * figure.high:.1f})"
        if abs(scale * figure.value) < 10_000
        else value
    )


def section(name: str) -> list[str]:
    """A sample's table. Bold: the best of a column, and what its interval cannot tell from the best."""
    subject, began = load(name), time.perf_counter()
    rows: dict[str, dict[tuple[str, str, float], Figure]] = {criterion: {} for criterion in criteria()}
    main, n, lower = "", 0, False
    looked = SAMPLES // 8 if subject.task.kind == "language_model" else SAMPLES
    whole = evaluate(subject, samples=looked)
    for granularity, scope, sparsities in COLUMNS:
        names = able(subject, granularity)
        common = places(subject, granularity, names)
        targets = common if granularity == "weight" else [subject.structure.cuts[p].group.producers[0] for p in common]
        for criterion in names if targets else ():
            for sparsity in sparsities:
                recipe = Recipe().prune(
                    targets, sparsity=sparsity, criterion=criterion, granularity=granularity, scope=scope
                )
                report = evaluate(subject, recipe, samples=looked)
                main, n, lower = report.main, report.n, report.main in report.lower_is_better
                rows[criterion][granularity, scope, sparsity] = report.figure(main)
            print(f"  {name} {granularity} {scope} {criterion}: {time.perf_counter() - began:.0f} s", flush=True)
    keys = [(g, s, p) for g, s, many in COLUMNS for p in many]
    best = {}
    for key in keys:
        found = [row[key] for row in rows.values() if key in row and row[key].value == row[key].value]
        if found:
            best[key] = min(found, key=lambda f: f.value) if lower else max(found, key=lambda f: f.value)
    lines = [
        "",
        f"## {name}",
        "",
        f"{main} of the original: {text(whole.figure(main), main)}; measured on {n:,} validation samples.",
        "",
        HEAD,
    ]
    for criterion, row in rows.items():
        cells = []
        for key in keys:
            cell = text(row[key], main) if key in row else ""
            cells.append(f"**{cell}**" if key in row and _as_good(row[key], best[key], lower) else cell)
        if any(cells):
            lines.append(f"| {criterion} | {' | '.join(cells)} |")
    return lines


def _as_good(figure: Figure, best: Figure, lower: bool) -> bool:
    """Whether a figure's interval reaches the best value."""
    if figure.value == best.value:
        return True
    if figure.low is None or figure.high is None:
        return False
    return figure.low <= best.value if lower else figure.high >= best.value


def main(names: list[str]) -> None:
    for name in names or samples():
        made = "\n".join(section(name))[len("\n## ") :] + "\n"
        above, _, below = TARGET.read_text(encoding="utf-8").partition(MARK)  # now: it may have been edited meanwhile
        known = {part.split("\n", 1)[0]: part for part in re.split(r"(?m)^## ", below)[1:]} | {name: made}
        parts = ["## " + known[one].rstrip("\n") + "\n" for one in samples() if one in known]
        TARGET.write_text(above + MARK + "\n\n" + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
