"""A ResNet-50-sized network on 5,000 images of 224 x 224: any-layer drags, against what its arithmetic alone would take.

    python benchmarks/resnet50.py [--device cuda] [--images 5000] [--size 224] [--repeats 5]

Random weights and images serve: what is timed does not depend on them. For a layer of each stage: the first answer (as many
samples as fit 40 ms) and all samples, in the fast precision, each with its whole Report; the floor is twice the
multiply-accumulates behind the change, at the speed of a product of two 8192 x 8192 bfloat16 matrices as measured here (1024 on a CPU).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import explorer  # noqa: E402
from benchmarks import floor  # noqa: E402
from explorer.evaluate.engine import engine  # noqa: E402
from explorer.evaluate.evaluator import glance  # noqa: E402
from explorer.models.device import pick  # noqa: E402

LAYERS = ("conv1", "layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2", "layer4.0.conv2", "fc")


class Bottleneck(nn.Module):
    """He et al. 2016, arXiv 1512.03385, figure 5; the stride at the 3 x 3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.down: nn.Module = nn.Identity()
        if stride != 1 or inputs != 4 * width:
            self.down = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        return F.relu(self.bn3(self.conv3(h)) + self.down(x))


class ResNet50(nn.Module):
    """25.6 million parameters, 4.1 billion multiply-accumulates at 224 x 224."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.pool, inputs = nn.MaxPool2d(3, 2, 1), 64
        for i, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            made = []
            for j in range(blocks):
                made.append(Bottleneck(inputs, width, 2 if i > 1 and j == 0 else 1))
                inputs = 4 * width
            setattr(self, f"layer{i}", nn.Sequential(*made))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[operator]
        return self.fc(x.mean((2, 3)))


def made(images: int, size: int) -> explorer.Subject:
    """The network, and random images."""
    torch.manual_seed(0)
    module = ResNet50().eval()
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.running_var.fill_(2.0)  # type: ignore[union-attr]  # keeps random activations in range
    data = TensorDataset(torch.randn(images, 3, size, size), torch.randint(0, 1000, (images,)))
    return explorer.Subject(module, explorer.Task.classification(validation=data), "resnet-50")


def read(report: explorer.Report) -> None:
    """All that the screen reads of a report."""
    _ = dict(report.metrics), {name: report.change(name) for name in report.changes}, report.sparsity, report.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    run(parser.parse_args())


def run(given: argparse.Namespace) -> None:
    """Print the table."""
    device = pick(given.device)
    subject, fastest = made(given.images, given.size), floor.peak(device, torch.bfloat16, time.perf_counter)
    began = time.perf_counter()
    read(explorer.evaluate(subject, precision="fast", device=device))
    loaded, engine_ = time.perf_counter() - began, engine(subject, device, "fast")
    tuned = engine_.tuned
    print(
        f"resnet-50 on {device}: {given.images} images {given.size} x {given.size}, bf16 product {fastest / 1e12:.1f} TFLOP/s; "
        f"{engine_.runner.tier}, {tuned.dtype or 'float32'}, {tuned.layout}, batch {engine_.batch}, loaded in {loaded:.1f} s; "
        f"{engine_.prefixes.budget / 1e9:.1f} GB for values in front {engine_.runner.reason}"
    )
    print(f"{'layer':22} {'first ms':>9} {'n':>6} {'floor ms':>9} {'of it':>6} {'all ms':>9} {'floor ms':>9} {'of it':>6}")
    for layer in (f"{name}.weight" for name in LAYERS):
        first, whole, n = [], [], 0
        for i in range(given.repeats + 1):  # the first one fills what is kept, as the first move of a drag does
            recipe = explorer.Recipe().prune(layer, sparsity=0.3 + 0.4 * (i + 0.5) / (given.repeats + 1))
            seen: list[explorer.Report] = []
            first.append(floor.seconds(lambda: seen.append(glance(subject, recipe, precision="fast", device=device)), device, time.perf_counter))  # noqa: B023
            n = seen[0].n
            other = recipe.prune(layer, sparsity=0.31 + 0.4 * (i + 0.5) / (given.repeats + 1))
            whole.append(floor.seconds(lambda: read(explorer.evaluate(subject, other, precision="fast", device=device)), device, time.perf_counter))  # noqa: B023
        least = 2 * floor.behind(subject, layer, device, "fast") * given.images / fastest
        print(f"{layer:22} {against(statistics.median(first[1:]), n, least * n / given.images)} {against(statistics.median(whole[1:]), 0, least)}", flush=True)


def against(took: float, n: int, least: float) -> str:
    """Milliseconds, samples (0: known), the floor's milliseconds, and which fraction of the time these are."""
    return " ".join([f"{1000 * took:>9.1f}", *([f"{n:>6}"] if n else []), f"{1000 * least:>9.2f} {least / took:>6.2f}"])


if __name__ == "__main__":
    main()
