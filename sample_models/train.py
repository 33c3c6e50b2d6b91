"""Train the sample models again, from their seeds and with nothing but what lies in this folder.

    python -m sample_models.train vowels-lstm              # overwrites weights/ and cards/
    python -m sample_models.train all --out /tmp/again     # all nine, somewhere else

The epoch with the best validation score is kept; test is read once, for the card. On another CPU or torch the
last bits differ, and with them the scores a little.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models import HERE, SAMPLES, build, data
from sample_models.datasets import Split
from sample_models.scores import LOWER_IS_BETTER, MAIN, score


@dataclass(frozen=True)
class Settings:
    """How one sample is trained: AdamW under a one-cycle learning rate (Smith, Topin 2017, arXiv 1708.07120)."""

    epochs: int
    batch: int
    lr: float  # the peak
    weight_decay: float = 1e-2
    augment: bool = False  # images: mirrored, shifted by up to 2 pixels
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0


SETTINGS = {
    "fashion-mlp": Settings(epochs=12, batch=128, lr=2e-3),
    "fashion-lenet5": Settings(epochs=8, batch=128, lr=2e-3),
    "fashion-resnet": Settings(epochs=12, batch=128, lr=1e-2, weight_decay=5e-2, augment=True),
    "fashion-vit": Settings(epochs=18, batch=128, lr=3e-3, weight_decay=5e-2),
    "vowels-rnn": Settings(epochs=150, batch=18, lr=1e-2),
    "vowels-lstm": Settings(epochs=60, batch=18, lr=5e-3),
    "surnames-gru": Settings(epochs=12, batch=64, lr=3e-3),
    "moby-lstm": Settings(epochs=12, batch=64, lr=4e-3),
    "bikes-mlp": Settings(epochs=60, batch=64, lr=3e-3),
}


def augment(x: Tensor) -> Tensor:
    """Mirror each image (B, 1, H, W) with probability 1/2 and shift the whole batch by up to 2 pixels."""
    x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-1), x)
    top, left = torch.randint(0, 5, (2,)).tolist()
    height, width = x.shape[-2:]
    return F.pad(x, (2, 2, 2, 2))[..., top : top + height, left : left + width]


def loss(task: str, outputs: Tensor, y: Tensor) -> Tensor:
    """Mean squared error for a regression, cross-entropy for everything else."""
    if task == "regression":
        return F.mse_loss(outputs, y)
    return F.cross_entropy(outputs.flatten(0, -2), y.flatten())


def target_scale(task: str, split: Split) -> tuple[float, float]:
    """Return mean and deviation of a regression's targets, (0, 1) otherwise."""
    return (float(split.targets.mean()), float(split.targets.std())) if task == "regression" else (0.0, 1.0)


@torch.no_grad()
def unscaled(module: nn.Module, task: str, mean: float, std: float) -> nn.Module:
    """Return a copy that answers in the target's unit: the scale is folded into the last layer."""
    module = copy.deepcopy(module)
    if task == "regression":
        head = module.get_submodule("head")
        assert isinstance(head, nn.Linear)
        head.weight.mul_(std)
        head.bias.mul_(std).add_(mean)
    return module


def epoch(
    module: nn.Module,
    task: str,
    split: Split,
    settings: Settings,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    scale: tuple[float, float],
) -> float:
    """Train on every sample once, in random order; return the mean loss."""
    module.train()
    total, (mean, std) = 0.0, scale
    for indices in torch.randperm(len(split)).split(settings.batch):
        x, y = split.batch(indices)
        x = augment(x) if settings.augment else x
        y = (y - mean) / std if task == "regression" else y
        value = loss(task, module(x), y)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
        optimizer.step()
        schedule.step()
        total += value.item() * len(indices)
    return total / len(split)


def rank(scores: Mapping[str, float], task: str) -> tuple[float, float]:
    """Return a key by which the better epoch is the larger: the main metric, then a lower cross-entropy."""
    value = scores[MAIN[task]]
    return (-value if MAIN[task] in LOWER_IS_BETTER else value), -scores.get("cross_entropy", 0.0)


def train(name: str, settings: Settings) -> tuple[nn.Module, int, float]:
    """Return the module of the best epoch by validation, that epoch's number (from 1) and the seconds it all took."""
    torch.manual_seed(settings.seed)
    task, splits = SAMPLES[name].task, data(name).splits
    module, scale = build(name), target_scale(task, splits["train"])
    steps = settings.epochs * -(-len(splits["train"]) // settings.batch)
    optimizer = torch.optim.AdamW(module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps)
    start, best, kept, kept_epoch = time.perf_counter(), (float("-inf"), 0.0), module, 0
    for number in range(1, settings.epochs + 1):
        train_loss = epoch(module, task, splits["train"], settings, optimizer, schedule, scale)
        candidate = unscaled(module, task, *scale)
        scores = score(candidate, splits["validation"], task)
        seconds = time.perf_counter() - start
        shown = f"{MAIN[task]} {scores[MAIN[task]]:.4f}"
        print(f"{name} {number:3d} loss {train_loss:.4f} validation {shown} {seconds:5.0f} s", flush=True)
        if rank(scores, task) > best:
            best, kept, kept_epoch = rank(scores, task), candidate, number
    return kept.eval(), kept_epoch, time.perf_counter() - start


def describe(name: str, module: nn.Module, settings: Settings, kept: int, seconds: float) -> dict[str, Any]:
    """Return the card: everything a reader needs to judge the model and to make it again."""
    sample, source = SAMPLES[name], data(name)
    scores = {key: score(module, split, sample.task) for key, split in source.splits.items()}
    rounded = {key: {k: round(v, 6) for k, v in values.items()} for key, values in scores.items()}
    training = asdict(settings) | {
        "optimizer": "AdamW, one-cycle learning rate, lr is its peak",
        "kept_epoch": kept,
        "selected_by": f"validation {MAIN[sample.task]}",
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "command": f"python -m sample_models.train {name}",
    }
    return {
        "name": name,
        "title": sample.title,
        "summary": sample.summary,
        "task": sample.task,
        "architecture": " ".join((type(module).__doc__ or "").split()),
        "file": f"sample_models/{sample.module.partition(':')[0]}.py",
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "data": source.source,
        "licence": {"data": source.licence, "weights": "Apache-2.0"},
        "training": training,
        "scores": rounded,
    }


def save(name: str, module: nn.Module, card: dict[str, Any], out: Path) -> None:
    """Write out/weights/NAME.safetensors (fp32) and out/cards/NAME.json."""
    for folder in ("weights", "cards"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    save_file(module.state_dict(), out / "weights" / f"{name}.safetensors")
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (out / "cards" / f"{name}.json").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one sample or all of them."""
    parser = argparse.ArgumentParser(prog="python -m sample_models.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", choices=[*SAMPLES, "all"])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for weights/ and cards/ (default: this package)")
    parser.add_argument("--epochs", type=int, help="fewer or more than in the table")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for name in SAMPLES if options.name == "all" else [options.name]:
        settings = SETTINGS[name]
        if options.epochs:
            settings = Settings(**asdict(settings) | {"epochs": options.epochs})
        module, kept, seconds = train(name, settings)
        card = describe(name, module, settings, kept, seconds)
        save(name, module, card, options.out)
        print(name, card["parameters"], "parameters,", json.dumps(card["scores"]), flush=True)


if __name__ == "__main__":
    main()
