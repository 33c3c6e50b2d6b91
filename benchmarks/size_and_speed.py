"""How small and how fast each exported format is, and what it costs, for every sample.

python benchmarks/size_and_speed.py [--seconds 2] [--batch 64] [sample ...]

Each sample's original, exported in every format: bytes on disk, bytes of the ONNX initializers, the ratio to fp32 of the same
kind, median latency as a ratio to fp32 ONNX in the same run (one thread, variants in turn), the main metric on validation and
what it loses. Then, of every sample, a 90 % sparse 5-bit model as a packed file, not fine-tuned: the size is what is shown.
A line at the end says which of the aims hold; the exit code is 1 where one does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from explorer.compress.apply import compress  # noqa: E402
from explorer.compress.resolve import resolve  # noqa: E402
from explorer.core.recipe import Recipe  # noqa: E402
from explorer.evaluate.evaluator import evaluate  # noqa: E402
from explorer.export.agreement import compare  # noqa: E402
from explorer.export.exporters import registry  # noqa: E402
from explorer.export.session import open_session  # noqa: E402
from explorer.measure.timing import interleaved, quartiles  # noqa: E402
from explorer.models.calls import calls  # noqa: E402
from explorer.models.samples import load, samples  # noqa: E402
from explorer.models.subject import Subject  # noqa: E402

FORMATS = ("safetensors", "onnx", "onnx-int8", "onnx-int4", "packed")
LARGE = 200_000  # parameters from which the file itself, not its initializers, is held to the aim
SMALLER, LOST, PACKED = 3.5, 0.003, 25.0
FRACTIONS = ("accuracy", "r2")


def written(subject: Subject, name: str, recipe: Recipe, folder: Path) -> tuple[Path, Any, Any]:
    """(file, exporter, plan) of a format."""
    exporter = registry[name]()
    plan = resolve(subject, exporter.meaning(subject, recipe))
    module = compress(subject, plan).to("cpu")
    exporter.write(subject, plan, module, folder)
    gap = exporter.verify(subject, plan, module, folder)
    if not gap <= exporter.tolerance:
        raise SystemExit(f"{subject.name}, {name}: differs by {gap:.1e}")
    return folder / exporter.filename, exporter, plan


def initializers(path: Path) -> int:
    """Bytes of the data of an ONNX file's initializers."""
    return sum(len(one.raw_data) or one.ByteSize() for one in onnx.load(path).graph.initializer)


def latency(subject: Subject, files: dict[str, Path], batch: int, seconds: float) -> dict[str, float]:
    """Median seconds of each ONNX file; they take turns."""
    (call,) = calls(subject, subject.copy(), (batch,))
    given = call.tensors()
    sessions = {name: open_session(path, threads=1) for name, path in files.items()}
    feeds = {name: {one.name: given[one.name].numpy() for one in s.get_inputs()} for name, s in sessions.items()}
    runs = [lambda name=name: sessions[name].run(None, feeds[name]) for name in files]  # type: ignore[misc]
    return {name: quartiles(times)[0] for name, times in zip(files, interleaved(runs, seconds), strict=True)}


def rows(name: str, options: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """(lines of the table, aims that are missed) of one sample."""
    subject = load(name)
    parameters = sum(p.numel() for p in subject.module.parameters())
    report = evaluate(subject, device="cpu")
    main, original = report.main, report.metrics[report.main]
    lines, missed = [], []
    with tempfile.TemporaryDirectory() as place:
        made = {format: written(subject, format, Recipe(), Path(place)) for format in FORMATS}
        size = {format: path.stat().st_size for format, (path, _, _) in made.items()}
        onnx_files = {format: path for format, (path, _, _) in made.items() if format.startswith("onnx")}
        weights = {format: initializers(path) for format, path in onnx_files.items()}
        times = {n: latency(subject, onnx_files, n, options.seconds) for n in (1, options.batch)}
        for format, (_, exporter, plan) in made.items():
            value, same = original, ""
            if exporter.simulated:
                seen = compare(subject, plan, exporter.loaded(Path(place)))
                value, same = seen.figures[main].value, "" if seen.same is None else f"{100 * seen.same:.2f} %"
            base = "onnx" if format.startswith("onnx") else "safetensors"
            ratio = size[base] / size[format]
            inner = weights["onnx"] / weights[format] if format in weights else None
            lost = (original - value) * (-1 if main in report.lower_is_better else 1)
            speed = [f"{times[n]['onnx'] / times[n][format]:.2f}x" if format in weights else "" for n in times]
            lines.append(
                [name, format, f"{size[format]:,}", f"{ratio:.2f}x", f"{inner:.2f}x" if inner else "", *speed, main, f"{value:.4f}",
                 f"{0.0 - lost:+.4f}", same]
            )  # fmt: skip
            if format == "onnx-int8":
                reached = ratio if parameters > LARGE else inner or 0.0
                if reached < SMALLER:
                    what = "its file" if parameters > LARGE else "its initializers"
                    layers = sum(layer.numel for layer in subject.layers)
                    bound = 4 * parameters / (layers + 4 * (parameters - layers))
                    why = f" (a byte a weight and fp32 biases, without scales: {bound:.2f}x)" if bound < SMALLER else ""
                    missed.append(f"{name}: {what} {reached:.2f}x smaller, aim {SMALLER}x{why}")
                if main in FRACTIONS and lost > max(LOST, 1.01 / report.n):
                    missed.append(f"{name}: loses {100 * lost:.2f} points, aim {100 * LOST:.1f}")
        recipe = Recipe().prune("*", sparsity=0.9, scope="global").quantize("*", bits=5)
        path, _, _ = written(subject, "packed", recipe, Path(place))
        ratio = size["safetensors"] / path.stat().st_size
        value = evaluate(subject, recipe, device="cpu").metrics[main]
        lines.append(
            [
                name,
                "packed, 90 % sparse, 5 bits",
                f"{path.stat().st_size:,}",
                f"{ratio:.2f}x",
                "",
                "",
                "",
                main,
                f"{value:.4f}",
                "",
                "",
            ]
        )
        if name == "fashion-mlp" and ratio < PACKED:
            missed.append(f"{name}: packed {ratio:.1f}x smaller, aim {PACKED:.0f}x")
    return lines, missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="*", default=list(samples()), help=", ".join(samples()))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each sample and batch size")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    speed = f"faster, 1 | faster, {options.batch}"
    print(
        f"| sample | format | bytes on disk | smaller | initializers smaller | {speed} | metric | validation | change | as simulated |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    missed: list[str] = []
    for name in options.samples:
        lines, problems = rows(name, options)
        missed += problems
        for line in lines:
            print(f"| {' | '.join(line)} |", flush=True)
    print("\n" + ("missed: " + "; ".join(missed) if missed else "all aims hold"))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
