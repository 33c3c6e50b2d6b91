"""Writes docs/structure.md: what can be removed from which architecture, how exactly, and whether the rest still exports.

python benchmarks/structure_table.py            the nine samples and every architecture of the tests' zoo
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from explorer.compress.apply import compress, verify  # noqa: E402
from explorer.compress.plan import Plan  # noqa: E402
from explorer.compress.resolve import resolve  # noqa: E402
from explorer.core.recipe import Recipe  # noqa: E402
from explorer.evaluate.costs import counts  # noqa: E402
from explorer.export.exporters import registry  # noqa: E402
from explorer.models.subject import Subject  # noqa: E402
from tests.contract.nets import SAMPLES, few  # noqa: E402
from tests.structure.zoo import CASES, RECURRENT, UNTRACEABLE  # noqa: E402
from tests.structure.zoo_depth import DEPTH  # noqa: E402

TARGET = ROOT / "docs" / "structure.md"
MARK = "<!-- below: written by python benchmarks/structure_table.py -->"
HEAD = "| architecture | units: number (kind) | masked = removed | parameters | MACs | safetensors | ONNX Runtime |\n|---|---|---|---|---|---|---|"


def reloaded(subject: Subject, plan: Plan, module: torch.nn.Module, name: str) -> str:
    """Exported, opened again, same outputs: "yes"; otherwise why not."""
    exporter = registry[name]()
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = exporter.write(subject, plan, module, Path(folder))
            gap = exporter.verify(subject, plan, module, Path(folder))
        except Exception as error:  # the table says what does not export
            why = str(error).splitlines()[0].removeprefix(f"{subject.name}: ")
            return f"no: {why.partition(';')[0][:90]}"
    if written.notes:
        return "weights only"
    return "yes" if gap <= exporter.tolerance else f"no: differs by {gap:.0e}"


def units(subject: Subject) -> str:
    """What can go, e.g. "4 x 128 neuron"."""
    tally: dict[tuple[int, str], int] = {}
    for group in subject.groups:
        tally[group.units, group.kind] = tally.get((group.units, group.kind), 0) + 1
    return ", ".join(f"{n} x {count} {kind}" if n > 1 else f"{count} {kind}" for (count, kind), n in tally.items())


def row(subject: Subject) -> str:
    """Half the units of every group go."""
    if not subject.groups:
        return f"| {subject.name} | none: {next(iter(subject.structure.refused.values()))} | | | | | |"
    return cells(subject, units(subject), resolve(subject, Recipe().prune("*", sparsity=0.5, granularity="unit")))


def cells(subject: Subject, what: str, plan: Plan) -> str:
    """A row of the table."""
    module = compress(subject, plan)
    gap = verify(subject, plan, module, 16)
    before, after = counts(subject, Plan({}, {}, {}, frozenset())), counts(subject, plan)
    macs = f"{before.macs:,} → {after.macs:,}" if before.macs and after.macs else after.macs_reason
    files = [reloaded(subject, plan, module, name) for name in ("safetensors", "onnx")]
    found = [subject.name, what, f"{gap:.0e}", f"{before.parameters:,} → {after.parameters:,}", macs, *files]
    return f"| {' | '.join(found)} |"


def deep(subject: Subject) -> str:
    """The less important half of the blocks goes; of a single block, that one."""
    names = [group.name for group in subject.blocks]
    rule = {"sparsity": 0.5} if len(names) > 1 else {"threshold": 1e9}
    return cells(subject, f"{len(names)} block", resolve(subject, Recipe().prune("*", granularity="layer", **rule)))


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = ["", "## The sample models", "", HEAD]
    for name in SAMPLES:
        lines.append(row(few(name)))
        print(lines[-1], flush=True)
    for title, cases in (
        ("Architectures", CASES),
        ("Models that cannot be traced", UNTRACEABLE),
        ("Recurrent layers of every setting", RECURRENT),
    ):
        lines += ["", f"## {title}", "", HEAD]
        for case in cases:
            lines.append(row(case.subject("cpu")))
            print(lines[-1], flush=True)
    lines += ["", "## Whole blocks", "", HEAD.replace("units: number (kind)", "removable")]
    for subject in (few("fashion-resnet"), few("fashion-vit"), *(case.subject("cpu") for case in DEPTH)):
        lines.append(deep(subject))
        print(lines[-1], flush=True)
    above = TARGET.read_text(encoding="utf-8").partition(MARK)[0]
    TARGET.write_text("\n".join([above + MARK, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
