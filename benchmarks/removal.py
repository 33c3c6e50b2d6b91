"""What removed units gain in ONNX Runtime, beside the same share of zeros, which gain nothing.

python benchmarks/removal.py [--seconds 3] [sample ...]

The original, the model with half its units removed and the original with as many of its weights set to zero, each
exported to ONNX, run in turn in one process on one thread; a figure is the median over all turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from explorer.compress.apply import compress  # noqa: E402
from explorer.compress.resolve import resolve  # noqa: E402
from explorer.core.recipe import Recipe  # noqa: E402
from explorer.evaluate.costs import counts  # noqa: E402
from explorer.export.exporters import registry  # noqa: E402
from explorer.export.exporters.onnx import open_session  # noqa: E402
from explorer.models.calls import calls  # noqa: E402
from explorer.models.samples import load  # noqa: E402
from explorer.models.subject import Subject  # noqa: E402

KINDS = {
    "vowels-lstm": ("hidden",),
    "surnames-gru": ("hidden",),
    "fashion-vit": ("head", "neuron"),
    "fashion-resnet": ("channel",),
}
BATCHES = (1, 64)


@dataclass
class Variant:
    """One exported model."""

    session: Any
    size: int  # bytes of the ONNX file
    macs: int | None


def made(subject: Subject, recipe: Recipe, folder: Path) -> Variant:
    """Compress, export, open in ONNX Runtime."""
    plan = resolve(subject, recipe)
    module = compress(subject, plan)
    exporter = registry["onnx"]()
    place = Path(tempfile.mkdtemp(dir=folder))
    exporter.write(subject, plan, module, place)
    exporter.verify(subject, plan, module, place)
    path = place / exporter.filename
    return Variant(open_session(path), path.stat().st_size, counts(subject, plan).macs)


def halved(subject: Subject) -> Recipe:
    """Half the units of each group of the sample's kinds."""
    recipe = Recipe()
    for group in subject.groups:
        if group.kind in KINDS[subject.name]:
            recipe = recipe.prune(group.producers[0], sparsity=0.5, granularity="unit")
    return recipe


def zeros(subject: Subject, recipe: Recipe) -> Recipe:
    """As many zeros as the recipe removes weights, in the same tensors."""
    out = Recipe()
    for name, layer in counts(subject, resolve(subject, recipe)).layers.items():
        if layer.remaining < layer.original:
            out = out.prune(name, sparsity=1 - layer.remaining / layer.original)
    return out


def times(variants: list[Variant], inputs: dict[str, Any], seconds: float) -> list[float]:
    """Median milliseconds of each variant; they take turns, so that whatever else runs meets all alike."""
    found: list[list[float]] = [[] for _ in variants]
    for variant in variants:
        for _ in range(5):
            variant.session.run(None, inputs)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[0]) < 20:
        for variant, mine in zip(variants, found, strict=True):
            start = time.perf_counter()
            variant.session.run(None, inputs)
            mine.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(one) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="*", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each sample and batch size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(
        "| sample | half of | batch | original | removed | zeros | removed: faster | smaller | fewer MACs | zeros: faster | smaller |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in options.samples:
        subject = load(name)
        recipe = halved(subject)
        with tempfile.TemporaryDirectory() as folder:
            variants = [made(subject, r, Path(folder)) for r in (Recipe(), recipe, zeros(subject, recipe))]
            before, removed, zeroed = variants
            macs = f"{before.macs / removed.macs:.2f}x" if before.macs and removed.macs else "not counted"
            for batch in BATCHES:
                (call,) = calls(subject, subject.copy(), (batch,))
                given = call.tensors()
                wanted = [one.name for one in before.session.get_inputs()]
                a, b, c = times(variants, {key: given[key].numpy() for key in wanted}, options.seconds)
                cells = [
                    name, " and ".join(KINDS[name]), f"{batch}", f"{a:.3f} ms", f"{b:.3f} ms", f"{c:.3f} ms", f"{a / b:.2f}x",
                    f"{before.size / removed.size:.2f}x", macs, f"{a / c:.2f}x", f"{before.size / zeroed.size:.2f}x",
                ]  # fmt: skip
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
