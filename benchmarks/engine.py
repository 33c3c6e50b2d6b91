"""How much faster than the obvious loop a drag is evaluated: ratios in one process, interleaved medians, one core.

    python benchmarks/engine.py [--samples fashion-mlp,...] [--repeats 5] [--n 10000] [--work drag,scan]

naive: copy.deepcopy, torch.nn.utils.prune.l1_unstructured, DataLoader(TensorDataset, 128) under no_grad, float32, counting
right answers. ours: ``explorer.evaluate(subject, recipe, precision="fast")`` over the same samples with its whole Report (every
metric, every paired change, sparsity and bytes); beside it the same in full precision. Every evaluation has a sparsity of its
own, so nothing is answered from memory. Naive and ours take turns, so that a busy machine slows both.

floor: the products that have to run again (for the first layer all of them; counted, direct convolutions), at the speed of a large product of matrices in
the faster of float32 and bfloat16 as measured here. best: naive over floor, the ratio if products ran at that speed and all else took no time; "unreachable" where
that is below the aim. A scan's floor is one pass and what is behind each layer once for every sparsity, of as many samples as were looked at.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.utils.prune
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import explorer  # noqa: E402
from benchmarks import floor  # noqa: E402
from explorer.evaluate.engine import engine  # noqa: E402
from explorer.models.device import pick  # noqa: E402

# the layers dragged: first, middle, last in forward order; and the ratios aimed at
AIMS = {
    "fashion-mlp": (("fc1.weight", 3.5), ("fc2.weight", 18), ("fc3.weight", 70)),
    "fashion-lenet5": (("conv1.weight", 2.5), ("fc1.weight", 20), ("fc2.weight", 100)),
    "fashion-resnet": (("stem.weight", 2.5), ("b2.conv1.weight", 5), ("head.weight", 300)),
    "fashion-vit": (("patches.weight", 2.2), ("blocks.2.attn.q.weight", 4.5), ("head.weight", 300)),
    "vowels-lstm": (("lstm.weight_hh_l0", 1.3), ("lstm.weight_hh_l1", 2)),
    "moby-lstm": (("lstm.weight_hh_l0", 1.3), ("lstm.weight_hh_l1", 2)),
}
SCANS = {
    "fashion-mlp": 5,
    "fashion-lenet5": 5,
    "fashion-resnet": 5,
    "fashion-vit": 3.5,
    "vowels-lstm": 1.8,
    "moby-lstm": 1.8,
}
SPARSITIES = tuple(i / 10 for i in range(1, 10))


def subject_of(name: str, n: int) -> explorer.Subject:
    """A sample judged on the first ``n`` validation samples, read from a TensorDataset as the naive loop's."""
    whole = explorer.load(name)
    inputs, targets = whole.task.batch("validation", range(min(n, len(whole.task.dataset("validation")))))
    data = TensorDataset(inputs, torch.as_tensor(targets))
    make = {"classification": explorer.Task.classification, "language_model": explorer.Task.language_model}
    return explorer.Subject(whole.module, make[whole.task.kind](validation=data), name)


def right(outputs: torch.Tensor, targets: torch.Tensor) -> int:
    """Right answers of a batch."""
    return int((outputs.argmax(-1) == targets).sum())


@torch.no_grad()
def naive(module: nn.Module, layer: str, sparsity: float, data: TensorDataset, device: torch.device) -> int:
    """What one writes first."""
    pruned = copy.deepcopy(module).eval()
    owner, _, name = layer.rpartition(".")
    torch.nn.utils.prune.l1_unstructured(pruned.get_submodule(owner), name, sparsity)
    return sum(right(pruned(x.to(device)), y.to(device)) for x, y in DataLoader(data, 128))


def ours(subject: explorer.Subject, layer: str, sparsity: float, precision: str, device: str) -> explorer.Report:
    """One drag and all that the screen reads of its report."""
    recipe = explorer.Recipe().prune(layer, sparsity=sparsity)
    report = explorer.evaluate(subject, recipe, precision=precision, device=device)
    _ = dict(report.metrics), {name: report.change(name) for name in report.changes}, report.sparsity, report.bytes
    return report


def timed(work: Callable[[], Any], given: argparse.Namespace) -> float:
    """Milliseconds of one call, by the clock asked for."""
    return 1000 * floor.seconds(work, pick(given.device), clock_of(given))


def clock_of(given: argparse.Namespace) -> Callable[[], float]:
    """The clock asked for."""
    return time.process_time if given.clock == "cpu" else time.perf_counter


def against(base: float, least: float, aim: float) -> str:
    """The floor in ms and the ratio it would give, beside the aim."""
    return f"{least:>9.2f} {base / least:>7.1f}x {'' if base / least >= aim else '(unreachable)':13}"


def drag(name: str, given: argparse.Namespace, speed: float) -> None:
    """A line a layer: the medians of naive, fast and full, both ratios, and what products alone would take. speed: FLOP/s."""
    device = pick(given.device)
    subject = subject_of(name, given.n)
    data = subject.task.dataset("validation")
    module = copy.deepcopy(subject.module).to(device)
    began = time.perf_counter()
    for precision in ("fast", "full"):
        explorer.evaluate(subject, precision=precision, device=str(device))
    loaded = time.perf_counter() - began
    for layer, aim in AIMS[name]:
        if given.layer and given.layer != layer:
            continue
        times: dict[str, list[float]] = {"naive": [], "fast": [], "full": []}
        for i in range(given.repeats + 1):
            sparsity = 0.3 + 0.4 * (i + 0.25) / (given.repeats + 1)
            other = sparsity + 0.2 / (given.repeats + 1)  # far enough that a small layer, too, is cut elsewhere: where both are float32 they share what they saw
            works = {
                "naive": partial(naive, module, layer, sparsity, data, device),
                "fast": partial(ours, subject, layer, sparsity, "fast", str(device)),
                "full": partial(ours, subject, layer, other, "full", str(device)),
            }
            # in turn, since the naive loop leaves a cold cache to whoever follows
            for key, work in list(works.items())[:: 1 if i % 2 else -1]:
                if key == "naive" and i > given.naive:
                    continue
                took = timed(work, given)
                if i:  # the first one fills the caches, as the first move of a drag does
                    times[key].append(took)
                elif given.verbose:
                    print(f"  first {key} {took:.1f} ms")
        base, fast, full = (statistics.median(times[key]) for key in ("naive", "fast", "full"))
        run = engine(subject, device, "fast")
        kind = f"{run.runner.tier}, {'bf16' if run.dtype else 'fp32'}, {run.tuned.layout}, {run.batch}"
        least = 2000 * floor.behind(subject, layer, device) * len(data) / speed
        print(
            f"{name:15} {layer:24} {len(data):>6} {base:>9.1f} {fast:>8.2f} {full:>8.2f} {base / fast:>7.1f}x {aim:>6}x {base / full:>7.1f}x "
            f"{against(base, least, aim)} {kind}  {loaded:.1f}",
            flush=True,
        )


def scan(name: str, given: argparse.Namespace, speed: float) -> None:
    """Two lines: every layer at nine sparsities, exact and adaptive, against the naive loop over all of them."""
    device = pick(given.device)
    subject = subject_of(name, given.n)
    data, module = subject.task.dataset("validation"), copy.deepcopy(subject.module).to(device)
    layers = [layer.name for layer in subject.layers]
    points = len(layers) * len(SPARSITIES)
    explorer.evaluate(subject, precision="fast", device=given.device)
    settings: dict[str, Any] = {"precision": "fast", "device": given.device}
    explorer.sensitivity(subject, sparsities=(0.015,), **settings)  # compares every part with the module, once
    one = statistics.median(
        timed(lambda layer=layer: naive(module, layer, 0.5, data, device), given)  # type: ignore[misc]
        for layer in (layers[0], layers[len(layers) // 2], layers[-1])
    )
    parts = [floor.behind(subject, layer, device) for layer in layers]
    products = max(parts) + len(SPARSITIES) * sum(parts)  # one pass, and what is behind each layer
    for kind, aim in (("exact", SCANS[name]), ("adaptive", 12)):
        times, n = [], 0.0
        for i in range(max(1, given.repeats // 3)):
            sparsities = [s + 0.001 * i + 0.0005 * (kind == "exact") for s in SPARSITIES]
            table: list[Any] = []
            times.append(
                timed(
                    lambda sparsities=sparsities, table=table: table.append(  # type: ignore[misc]
                        explorer.sensitivity(subject, sparsities=sparsities, exact=kind == "exact", **settings)  # noqa: B023
                    ),
                    given,
                )
            )
            n = table[0].n.mean()
        took = statistics.median(times)
        least = 2000 * products * n / speed
        print(
            f"{name:15} {kind:9} {points:>4} points {len(data):>6} {one * points:>10.0f} {took:>8.0f} {one * points / took:>6.1f}x {aim:>5}x {against(one * points, least, aim)} n {n:.0f}",
            flush=True,
        )


def peaks(given: argparse.Namespace) -> dict[str, float]:
    """FLOP/s of a matrix product by dtype."""
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {kind: floor.peak(pick(given.device), dtype, clock_of(given)) for kind, dtype in kinds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default="fashion-mlp,fashion-lenet5,fashion-resnet,fashion-vit,moby-lstm")
    parser.add_argument("--work", default="drag")
    parser.add_argument("--layer", default="")
    parser.add_argument("--n", type=int, default=10_000, help="validation samples")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--naive", type=int, default=3, help="repetitions of the naive loop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: seconds of this process, on a busy machine"
    )
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = peaks(given)
    speed, gain = max(found.values()), found["bf16"] / found["fp32"]
    print(f"products of matrices on {given.device}: " + ", ".join(f"{kind} {1e-9 * one:.0f} GFLOP/s" for kind, one in found.items()), end="; ")
    print(f"bf16 is {gain:.1f} times as fast" if gain > 1.1 else f"bf16 is no faster than fp32 here ({gain:.2f} times), so that aims that count on it are out of reach")
    if "drag" in given.work:
        print(
            f"{'drag':15} {'layer':24} {'n':>6} {'naive ms':>9} {'fast ms':>8} {'full ms':>8} {'ratio':>8} {'aim':>7} {'full':>8} {'floor ms':>9} {'best':>8} {'':13} tier, dtype, layout, batch, load s"
        )
        for name in given.samples.split(","):
            drag(name, given, speed)
    if given.device.startswith("cuda"):
        from benchmarks import resnet50

        resnet50.run(argparse.Namespace(device=given.device, images=5000, size=224, repeats=given.repeats))
    if "scan" in given.work:
        print(f"{'scan':15} {'':9} {'':11} {'n':>6} {'naive ms':>10} {'ours ms':>8} {'ratio':>7} {'aim':>6} {'floor ms':>9} {'best':>8} {'':13} mean n (naive: one evaluation times the points)")
        for name in given.samples.split(","):
            scan(name, given, speed)


if __name__ == "__main__":
    main()
