"""What recovery reaches: how small without loss, and how much is lost when half of a model goes.

python benchmarks/recover.py [aim ...] [--device cpu] [--threads 1] [--margin 0] [--write docs/recover.md]

Every aim is one unattended run from fixed seeds: its stages in order, each judged on validation. Where the aim does not hold on validation, with
``--margin`` to spare, it has failed and the test split is not read; else it is read once, at the end. A line says whether the aim holds; the exit
code is 1 where one does not. ``--write`` replaces the rows of these aims in a table and keeps the others.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from explorer.compress.apply import compress  # noqa: E402
from explorer.compress.resolve import resolve  # noqa: E402
from explorer.core.recipe import Recipe  # noqa: E402
from explorer.core.report import Figure  # noqa: E402
from explorer.core.training import Epoch, cost  # noqa: E402
from explorer.export.exporters import registry  # noqa: E402
from explorer.models.device import place  # noqa: E402
from explorer.models.samples import load  # noqa: E402
from explorer.models.subject import Subject  # noqa: E402
from explorer.recover.augment import ShiftFlip  # noqa: E402
from explorer.recover.distill import distill  # noqa: E402
from explorer.recover.finetune import finetune  # noqa: E402
from explorer.recover.recalibrate import recalibrate  # noqa: E402
from explorer.recover.score import Scorer  # noqa: E402

Stage = tuple[str, Callable[[Subject], Recipe], dict[str, Any]]
MINUTES = 30


@dataclass(frozen=True)
class Aim:
    """stages: (what, the recipe for the subject by then, settings). lost: of the main metric on test, at most (relative for perplexity).
    smaller: than the original's 4 bytes a parameter, as a packed file; such a run has half an hour of one core, or of a GPU."""

    sample: str
    stages: tuple[Stage, ...]
    lost: float
    smaller: float = 0.0


def weights(sparsity: float, **more: Any) -> Callable[[Subject], Recipe]:
    """The weakest weights of all layers."""
    return lambda _: Recipe().prune("*", sparsity=sparsity, **more)


def layers(**sparsities: float) -> Callable[[Subject], Recipe]:
    """The weakest weights of each layer by itself."""

    def recipe(_: Subject) -> Recipe:
        made = Recipe()
        for name, sparsity in sparsities.items():
            made = made.prune(name, sparsity=sparsity)
        return made

    return recipe


def shared(bits: int, **finer: int) -> Callable[[Subject], Recipe]:
    """What is pruned already, and codebooks; finer: layers with other bits."""

    def recipe(subject: Subject) -> Recipe:
        made = Recipe(subject.recipe.rules).quantize("*", bits=bits, quantizer="kmeans-linear")
        for name, more in finer.items():
            made = made.quantize(name, bits=more, quantizer="kmeans-linear")
        return made

    return recipe


def units(*targets: str, **more: Any) -> Callable[[Subject], Recipe]:
    """Half of the units."""
    return lambda _: Recipe().prune(list(targets), granularity="unit", sparsity=0.5, **more)


ONE_CYCLE: dict[str, Any] = {"lr_schedule": "one-cycle"}
LONG: dict[str, Any] = {"lr": 2e-3, "weight_decay": 0.01, **ONE_CYCLE}
MOVED: dict[str, Any] = {"augment": ShiftFlip()}
TAUGHT: dict[str, Any] = {"alpha": 0.5}  # by the original
AIMS = {
    "mlp-40x": Aim(
        "fashion-mlp",
        (
            ("prune 70 %", weights(0.7, scope="global"), {"epochs": 5, **LONG}),
            ("prune 85 %", weights(0.85, scope="global"), {"epochs": 5, **LONG}),
            ("prune 92 %", weights(0.92, scope="global"), {"epochs": 10, **LONG}),
            ("16 levels", shared(4, fc2=5, fc3=6), {"epochs": 5, "lr": 3e-4}),
        ),
        lost=0.0, smaller=40.0,
    ),
    "lenet5-40x": Aim(
        "fashion-lenet5",
        (
            ("prune 79 %", layers(conv1=0.2, conv2=0.4, fc1=0.82, fc2=0.6), {"epochs": 5, **LONG, **MOVED, **TAUGHT}),
            ("prune 87 %", layers(conv1=0.2, conv2=0.5, fc1=0.9, fc2=0.7), {"epochs": 6, **LONG, **MOVED, **TAUGHT}),
            ("prune 92 %", layers(conv1=0.2, conv2=0.6, fc1=0.94, fc2=0.75), {"epochs": 18, **LONG, **MOVED, **TAUGHT}),
            ("16 levels", shared(4, conv1=6, conv2=5, fc2=6), {"epochs": 4, "lr": 3e-4, **MOVED, **TAUGHT}),
        ),
        lost=0.0, smaller=40.0,
    ),
    "resnet-70": Aim(
        "fashion-resnet",
        (("prune 70 %", weights(0.7), {"recalibrate": True}), ("recover", weights(0.7), {"epochs": 8, "lr": 5e-3, **ONE_CYCLE, **MOVED, **TAUGHT})),
        lost=0.005,
    ),
    "resnet-half": Aim("fashion-resnet", (("half the channels", units("*"), {"epochs": 7, "lr": 5e-3, **ONE_CYCLE, **MOVED, **TAUGHT}),), lost=0.01),
    "vowels-half": Aim("vowels-lstm", (("half the hidden units", units("lstm"), {"epochs": 40, "batch": 18, "lr": 3e-3}),), lost=0.01),
    "surnames-half": Aim("surnames-gru", (("half the hidden units", units("gru"), {"epochs": 12, "batch": 64, "lr": 3e-3, "weight_decay": 0.01, **ONE_CYCLE}),), lost=0.01),
    "moby-half": Aim("moby-lstm", (("half the hidden units", units("lstm"), {"epochs": 8, "batch": 64, "lr": 4e-3, **ONE_CYCLE}),), lost=0.10),
    "vit-half": Aim(
        "fashion-vit",
        (("half of heads and FFN", units("blocks.*.attn", "blocks.*.fc1"), {"epochs": 6, "lr": 2e-3, **ONE_CYCLE, **TAUGHT}),),
        lost=0.01,
    ),
}  # fmt: skip


def packed(subject: Subject, recipe: Recipe) -> int:
    """Bytes on disk, indices and codebooks included; the file is read again and compared."""
    plan = resolve(subject, recipe)
    module = compress(subject, plan).to("cpu")
    exporter = registry["packed"]()
    with tempfile.TemporaryDirectory() as folder:
        exporter.write(subject, plan, module, Path(folder))
        gap = exporter.verify(subject, plan, module, Path(folder))
        if not gap <= exporter.tolerance:
            raise SystemExit(f"{subject.name}: the packed file differs by {gap:.1e}")
        return (Path(folder) / exporter.filename).stat().st_size


@dataclass(frozen=True)
class Outcome:
    """holds: the aim. line: said at the end. row: of the table."""

    holds: bool
    line: str
    row: str


def run(name: str, aim: Aim, device: str, margin: float) -> Outcome:
    """One aim, from the sample to the figures on its test split."""
    began, worked, original = time.perf_counter(), time.process_time(), load(aim.sample)
    subject = original
    for what, recipe_of, settings in aim.stages:
        more = dict(settings)
        again = more.pop("recalibrate", False)
        recipe = recipe_of(original if again or len(aim.stages) == 1 else subject)
        if again:
            subject = recalibrate(subject, recipe, device=device)
        elif "alpha" in more:
            subject = distill(subject, recipe, teacher=original, compare=False, device=device, events=told, **more)
        else:
            subject = finetune(subject, recipe, device=device, events=told, **more)
        entry = subject.history[-1]
        line = ", ".join(
            f"{key} {getattr(entry, key)[entry.metric].value:.4f}" for key in ("before", "damaged", "after")
        )
        print(f"  {name}: {what}: {entry.metric} {line}; {entry.epochs} epochs, {entry.seconds:.0f} s", flush=True)
    wall, core = ((now - start) / 60 for now, start in ((time.perf_counter(), began), (time.process_time(), worked)))
    minutes = core if device == "cpu" and torch.get_num_threads() == 1 else wall  # others may work on the machine, too
    metric, lower = entry.metric, entry.metric in original.task.lower_is_better
    size = packed(subject, subject.recipe)
    ratio = 4 * sum(p.numel() for p in original.module.parameters()) / size
    goal = f"at most {aim.lost:g} lost" + (f", {aim.smaller:g}x smaller, {MINUTES} minutes" if aim.smaller else "")
    small = ratio >= aim.smaller and (not aim.smaller or minutes <= MINUTES)
    first, last = subject.history[0].before[metric].value, entry.after[metric].value
    tail = f"packed {size} bytes, {ratio:.1f}x smaller; {minutes:.1f} minutes on {device} ({wall:.1f} by the clock); aim: {goal}"
    spent = cost(subject.history)
    assert spent is not None
    stages = "; ".join(
        f"{what}: {entry.damaged[metric].value:.4f} to {entry.after[metric].value:.4f}"
        for (what, *_), entry in zip(aim.stages, subject.history, strict=True)
    )

    def outcome(holds: bool, test: str, change: str) -> Outcome:
        said = "holds" if holds else "FAILS"
        row = (
            f"| `{name}` | {said} | {aim.sample} | {goal} | {metric} {first:.4f}; {stages} | {test} | {change} | {size:,} ({ratio:.1f}x) | {spent.epochs} | "
            f"{minutes:.1f} ({wall:.1f}) | {machine(device)} |"
        )
        line = f"validation {metric} {first:.4f} to {last:.4f}; test {test} {change}"
        return Outcome(holds, f"{said}  {name}: {line}; {tail}", row)

    if lost(first, last, lower) > aim.lost - margin or not small:
        return outcome(False, "not read", "-")
    before, after, change = judged(original, subject, device, metric)
    reach = "" if change.low is None else f" ({change.low:+.4f} to {change.high:+.4f})"
    holds = lost(before.value, after.value, lower) <= aim.lost + 1e-9
    return outcome(holds, f"{before.value:.4f} to {after.value:.4f}, n = {before.n:,}", f"{change.value:+.4f}{reach}")


def lost(before: float, after: float, lower: bool) -> float:
    """In points of a metric that is better when it is higher; the relative increase of one that is better when it is lower."""
    return after / before - 1 if lower else before - after


def judged(original: Subject, subject: Subject, device: str, metric: str) -> tuple[Figure, Figure, Figure]:
    """On the test split: both figures, and the paired change with its interval."""
    where = torch.device(device)
    scorer = Scorer(original, where, "test")
    was, now = (scorer.columns(one.copy()._apply(lambda tensor: place(tensor, where))) for one in (original, subject))
    figures = scorer.judge.metrics
    return (
        figures.figures(was, "test")[metric],
        figures.figures(now, "test")[metric],
        figures.changes(was, now, "test")[metric],
    )


def machine(device: str) -> str:
    """What it ran on."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    names = [line.partition(":")[2].strip() for line in cpuinfo().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"


def cpuinfo() -> str:
    """Linux's account of its processors; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8") if file.exists() else ""


def write(file: Path, rows: dict[str, str]) -> None:
    """Put rows into the table of ``file``, by aim; those of other aims stay."""
    old = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = {line.split("`")[1]: line for line in old if line.startswith("| `")}
    kept |= rows
    lines = [kept[name] for name in AIMS if name in kept]
    file.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8", newline="\n")


HEAD = """# Recovery, measured

What pruning, removal and quantization cost after recovery, by `python benchmarks/recover.py`: every line is one unattended run from fixed
seeds. Settings were chosen on validation; the test split was read once, at the end (earlier settings of
`lenet5-40x` and `surnames-half` had been run to that end, too). Fractions, not percent. Some are taught by the original (distillation),
and those of `fashion-lenet5` and `fashion-resnet` see shifted and mirrored images; the former's original did not. `AIMS` in the benchmark has every setting.

- **validation**: the original's figure; then of each stage the damaged model's and the recovered one's.
- **change**: on the test split, recovered less original on the same samples, with its paired 95 % interval where one is defined.
- **packed**: bytes of the file on disk, indices and codebooks included; against 4 bytes a parameter.
- **minutes**: of one core's time where one thread computed, else by the clock; in brackets by the clock, on a machine that others used, too.

| aim | | model | to reach | validation | test | change | packed | epochs | minutes | on |
|---|---|---|---|---|---|---|---|---|---|---|"""


def told(event: Any) -> None:
    """An epoch, as it ends."""
    if isinstance(event, Epoch):
        loss = "" if event.loss is None else f"loss {event.loss:.4f}, "
        print(
            f"    epoch {event.epoch}: {loss}{event.metric} {event.figure.value:.4f}{' *' if event.best else ''} {event.seconds:.0f} s",
            flush=True,
        )


def main() -> int:
    """Run the aims asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("aims", nargs="*", choices=[*AIMS, []], help="all by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--margin", type=float, default=0.0, help="to spare on validation, or the test split is not read"
    )
    parser.add_argument("--write", type=Path, help="a table to put the rows into")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    held = []
    for name in options.aims or AIMS:
        found = run(name, AIMS[name], options.device, options.margin)
        print(found.line, flush=True)
        held.append(found.holds)
        if options.write is not None:
            write(options.write, {name: found.row})
    print(f"{sum(held)} of {len(held)} aims hold")
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
