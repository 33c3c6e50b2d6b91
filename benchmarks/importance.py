"""What the fused pass costs: in forward passes, beside one forward and backward, and beside a pass for every criterion.

python benchmarks/importance.py [NAMES]        1,024 training samples, one thread, CPU seconds, the best of five in turns
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from explorer.analysis.evidence import gather  # noqa: E402
from explorer.analysis.look import Look, chunks, loss_of  # noqa: E402
from explorer.analysis.probe import probe  # noqa: E402
from explorer.analysis.squares import squared_gradients  # noqa: E402
from explorer.models.samples import load, samples  # noqa: E402
from explorer.models.subject import Subject  # noqa: E402

LOOK = Look(device="cpu")
AIM = 3.5  # forwards
GRADIENT, ACTIVATION = 5, 4  # gradient, snip, taylor, movement, relevance; activation, variance, apoz, wanda


def best(*runs: Callable[[], object], repeats: int = 5) -> list[float]:
    """CPU seconds of the fastest of each, in turns, after one to warm up: other processes do not count, and slow down all alike."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, found in zip(runs, times, strict=True):
            began = time.process_time()
            run()
            found.append(time.process_time() - began)
    return [min(found[1:]) for found in times]


def forward(subject: Subject) -> None:
    """The model as it is, without gradients."""
    module = subject.copy()
    with torch.inference_mode():
        for inputs, targets, _ in chunks(subject, LOOK, probe(subject).chunk, torch.float32):
            loss_of(subject, subject.task.forward(module, inputs), targets)


def backward(subject: Subject) -> None:
    """The model as it is, with the gradients of all its layers."""
    module = subject.copy()
    for layer in subject.layers:
        module.get_parameter(layer.name).requires_grad_(True)
    for inputs, targets, _ in chunks(subject, LOOK, probe(subject).chunk, torch.float32):
        loss_of(subject, subject.task.forward(module, inputs), targets).backward()


def hooked(subject: Subject) -> None:
    """Forward, with the mean of what every module reads: what a criterion of activations would do by itself."""
    module, found = subject.copy(), {}

    def note(child: torch.nn.Module, args: tuple[object, ...]) -> None:
        if args and isinstance(args[0], torch.Tensor) and args[0].is_floating_point():
            found[child] = args[0].abs().flatten(2).sum((0, -1)) if args[0].ndim > 2 else args[0].abs().sum(0)

    for child in module.modules():
        if not list(child.children()):
            child.register_forward_pre_hook(note)
    with torch.inference_mode():
        for inputs, _, _ in chunks(subject, LOOK, probe(subject).chunk, torch.float32):
            subject.task.forward(module, inputs)


def row(name: str) -> str:
    """One line of the table."""
    subject = load(name)
    assert subject.layers and probe(subject).problem is None
    missing = [n for n in probe(subject).watched if n not in gather(subject, LOOK).squared]

    def squares() -> None:
        subject.memo = type(subject.memo)()
        if missing:
            squared_gradients(subject, missing, LOOK)

    once, both, seen, fused = best(
        lambda: forward(subject), lambda: backward(subject), lambda: hooked(subject), lambda: gather(subject, LOOK)
    )
    [fisher] = best(squares, repeats=1) if missing else [0.0]
    apart = GRADIENT * both + ACTIVATION * seen
    return f"{name:16} {once:8.3f} {both / once:9.1f}{'*' if both / once > AIM else ' '} {fused / once:8.1f} {fused / both:10.2f} {apart / fused:9.1f} {fisher / once:8.1f}"


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    print(f"forward: seconds; the others in forwards, unless said otherwise. Aim: fused <= {AIM}")
    print("alone: forward and backward of the model as it is, without looking at anything; *: these alone take more than the aim")
    print(f"{'sample':16} {'forward':>8} {'alone':>10} {'fused':>8} {'/alone':>10} {'apart /':>9} {'Fisher':>8}")
    for name in names or samples():
        print(row(name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
