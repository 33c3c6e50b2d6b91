"""What recovery reaches: how small without loss, and how much is lost when half of a model goes.

python benchmarks/recover.py [aim ...] [--device cpu]

Every aim is one unattended run from fixed seeds: its stages in order, each judged on validation; at the end, once, the test split. A line says
whether the aim holds; the exit code is 1 where one does not.
"""

from __future__ import annotations

import argparse
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
from explorer.core.training import Epoch  # noqa: E402
from explorer.evaluate.evaluator import evaluate  # noqa: E402
from explorer.export.exporters import registry  # noqa: E402
from explorer.models.samples import load  # noqa: E402
from explorer.models.subject import Subject  # noqa: E402
from explorer.recover.finetune import finetune  # noqa: E402
from explorer.recover.recalibrate import recalibrate  # noqa: E402

Stage = tuple[str, Callable[[Subject], Recipe], dict[str, Any]]
MINUTES = 30


@dataclass(frozen=True)
class Aim:
    """stages: (what, the recipe for the subject by then, settings). lost: of the main metric on test, at most (relative for perplexity).
    smaller: than the original's 4 bytes a parameter, as a packed file."""

    sample: str
    stages: tuple[Stage, ...]
    lost: float
    smaller: float = 0.0


def weights(sparsity: float, **more: Any) -> Callable[[Subject], Recipe]:
    """The weakest weights of all layers."""
    return lambda _: Recipe().prune("*", sparsity=sparsity, **more)


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
            ("prune 80 %", weights(0.8, scope="global"), {"epochs": 3, **LONG}),
            ("prune 93 %", weights(0.93, scope="global"), {"epochs": 8, **LONG}),
            ("16 levels", shared(4, conv1=6, conv2=5, fc2=6), {"epochs": 3, "lr": 3e-4}),
        ),
        lost=0.0, smaller=40.0,
    ),
    "resnet-70": Aim(
        "fashion-resnet",
        (("prune 70 %", weights(0.7), {"recalibrate": True}), ("recover", weights(0.7), {"epochs": 3, "lr": 3e-3})),
        lost=0.005,
    ),
    "resnet-half": Aim("fashion-resnet", (("half the channels", units("*"), {"epochs": 6, "lr": 5e-3, **ONE_CYCLE}),), lost=0.01),
    "vowels-half": Aim("vowels-lstm", (("half the hidden units", units("lstm"), {"epochs": 40, "batch": 18, "lr": 3e-3}),), lost=0.01),
    "surnames-half": Aim("surnames-gru", (("half the hidden units", units("gru"), {"epochs": 12, "batch": 64, "lr": 3e-3, "weight_decay": 0.01, **ONE_CYCLE}),), lost=0.01),
    "moby-half": Aim("moby-lstm", (("half the hidden units", units("lstm"), {"epochs": 3, "batch": 64, "lr": 3e-3}),), lost=0.10),
    "vit-half": Aim(
        "fashion-vit",
        (("half of heads and FFN", units("blocks.*.attn", "blocks.*.fc1"), {"epochs": 6, "lr": 2e-3, **ONE_CYCLE}),),
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


def run(name: str, aim: Aim, device: str) -> bool:
    """One aim; whether it holds."""
    began, original = time.perf_counter(), load(aim.sample)
    subject = original
    metric = ""
    for what, recipe_of, settings in aim.stages:
        more = dict(settings)
        recipe = recipe_of(original if more.get("recalibrate") or len(aim.stages) == 1 else subject)
        if more.pop("recalibrate", False):
            found = recalibrate(subject, recipe, device=device)
        else:
            found = finetune(subject, recipe, batch=more.pop("batch", 128), device=device, events=told, **more)
        entry = found.history[-1]
        metric = entry.metric
        line = ", ".join(f"{key} {getattr(entry, key)[metric].value:.4f}" for key in ("before", "damaged", "after"))
        print(f"  {name}: {what}: {metric} {line}; {entry.epochs} epochs, {entry.seconds:.0f} s", flush=True)
        subject = found
    minutes = (time.perf_counter() - began) / 60
    before, after = (evaluate(one, split="test", device=device).metrics[metric] for one in (original, subject))
    lower = metric in original.task.lower_is_better
    lost = after / before - 1 if lower else before - after
    size = packed(subject, subject.recipe)
    ratio = 4 * sum(p.numel() for p in original.module.parameters()) / size
    holds = lost <= aim.lost + 1e-9 and ratio >= aim.smaller and (not aim.smaller or minutes <= MINUTES)
    goal = f"at most {aim.lost:g} lost" + (f", {aim.smaller:g}x smaller, {MINUTES} minutes" if aim.smaller else "")
    print(
        f"{'holds' if holds else 'FAILS'}  {name}: test {metric} {before:.4f} to {after:.4f} (lost {lost:+.4f}); packed {size} bytes, "
        f"{ratio:.1f}x smaller; {minutes:.1f} minutes on {device}; aim: {goal}",
        flush=True,
    )
    return holds


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
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {name: run(name, AIMS[name], options.device) for name in options.aims or AIMS}
    print(f"{sum(results.values())} of {len(results)} aims hold")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
