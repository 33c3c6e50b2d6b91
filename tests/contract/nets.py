"""Small models and tasks that the tests share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Subset, TensorDataset

import sample_models
from explorer.evaluate.tune import Tuning
from explorer.models.samples import load
from explorer.models.subject import Subject
from explorer.models.task import Task, to_device
from explorer.models.trial import difference

SAMPLES = tuple(name for name in sample_models.SAMPLES if sample_models.weights_path(name).exists())
CNN_MLP = tuple(name for name in ("fashion-mlp", "fashion-lenet5", "fashion-resnet", "bikes-mlp") if name in SAMPLES)
RECURRENT = tuple(name for name in ("vowels-rnn", "vowels-lstm", "surnames-gru", "moby-lstm") if name in SAMPLES)


@cache
def sample(name: str, device: str = "cpu") -> Subject:
    """A sample model on a device; on the CPU the shared one itself."""
    whole = load(name)
    if device == "cpu":
        return whole
    return Subject(copy.deepcopy(whole.module).to(device), whole.task, name, card=whole.card)


@cache
def few(name: str, n: int = 48, device: str = "cpu") -> Subject:
    """A sample model judged on the first ``n`` samples of each split; shares the sample's own module."""
    whole = sample(name, device)
    splits = {key: Subset(data, range(min(n, len(data)))) for key, data in whole.task.splits.items()}
    make = {"classification": Task.classification, "regression": Task.regression, "language_model": Task.language_model}
    return Subject(whole.module, make[whole.task.kind](**splits), name, card=whole.card)


def tuned(subject: Subject, rate: float = 1600.0, batch: int = 64, dtype: torch.dtype | None = None) -> Subject:
    """The subject as if it had been measured on this machine: the first look is what fits 40 ms at ``rate``."""
    full = Tuning(batch=batch, rate=rate)
    found = {"full": full, "fast": Tuning(dtype, batch=batch, rate=rate) if dtype else full}
    subject.__dict__["_tuned"] = {(device, n): found for device in ("cpu", "cuda", "mps", "lazy") for n in range(1, 257)}
    return subject


def classification(shape: Sequence[int], classes: int = 3, n: int = 64, seed: int = 0, **more: Any) -> Task:
    """Random inputs [n, *shape] with random classes; each class occurs."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, *shape, generator=generator)
    targets = torch.randint(0, classes, (n,), generator=generator)
    targets[:classes] = torch.arange(classes)
    data = TensorDataset(inputs, targets)
    return Task.classification(train=data, validation=data, test=data, **more)


def regression(shape: Sequence[int], outputs: int = 1, n: int = 64, seed: int = 0) -> Task:
    generator = torch.Generator().manual_seed(seed)
    data = TensorDataset(torch.randn(n, *shape, generator=generator), torch.randn(n, outputs, generator=generator))
    return Task.regression(train=data, validation=data)


def language(n: int = 16, length: int = 7, vocabulary: int = 11, ignored: int = 0, seed: int = 0) -> Task:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, vocabulary, (n, length), generator=generator)
    targets = torch.randint(0, vocabulary, (n, length), generator=generator)
    if ignored:
        targets[:, -ignored:] = -100
    data = TensorDataset(inputs, targets)
    return Task.language_model(train=data, validation=data)


class MLP(nn.Module):
    """features -> hidden ... -> classes, any activation."""

    def __init__(
        self, widths: Sequence[int] = (6, 8, 5, 3), act: Callable[[Tensor], Tensor] = F.relu, bias: bool = True
    ):
        super().__init__()
        pairs = list(zip(widths, widths[1:], strict=False))
        self.fc = nn.ModuleList(nn.Linear(a, b, bias=bias) for a, b in pairs)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for i, layer in enumerate(self.fc):
            x = layer(x) if i + 1 == len(self.fc) else self.act(layer(x))
        return x


class HardView(nn.Module):
    """Its view has the number of channels written into it: units cannot go."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).view(-1, 4 * 4 * 4))


class CharLM(nn.Module):
    def __init__(self, vocabulary: int = 11, width: int = 6, hidden: int = 8, tie: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, 1, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)
        if tie:
            self.narrow = nn.Linear(hidden, width)
            self.head = nn.Linear(width, vocabulary)
            self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(self.embedding(x))
        return self.head(self.narrow(h) if hasattr(self, "narrow") else h)


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, biases, and BatchNorm statistics far from their defaults, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.5 if parameter.ndim > 1 else 0.7))
        for child in module.modules():
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None:
                child.running_mean.copy_(torch.randn(child.running_mean.shape, generator=generator))
                child.running_var.copy_(torch.rand(child.running_var.shape, generator=generator) + 0.3)
                child.weight.copy_(torch.randn(child.weight.shape, generator=generator) + 0.2)
    return module


def tiny(module: nn.Module | None = None, shape: Sequence[int] = (6,), device: str = "cpu", **more: Any) -> Subject:
    """A subject over a small random module, which is moved to the device."""
    torch.manual_seed(0)
    return Subject((module if module is not None else MLP()).to(device), classification(shape, **more), "tiny")


def batch(subject: Subject, n: int = 64, split: str = "validation") -> tuple[Any, Any]:
    """(inputs, targets) of the first ``n`` samples of a split, on the subject's device."""
    first = next(subject.module.parameters(), torch.empty(0))
    return to_device(subject.task.batch(split, range(n)), first.device)


def wide(device: str) -> torch.dtype:
    """The widest floating type there is: MPS has no float64."""
    return torch.float32 if device == "mps" else torch.float64


def exact(device: str) -> float:
    """How far two ways to compute the same may differ in the widest type."""
    return 1e-4 if device == "mps" else 1e-9


def same(found: Tensor, expected: Tensor) -> bool:
    """Bit for bit where arithmetic is that of IEEE 754 (CPU, CUDA), else to 1e-5; compared on the CPU."""
    a, b = found.detach().cpu(), expected.detach().cpu()
    return torch.equal(a, b) if found.device.type != "mps" else a.dtype == b.dtype and difference(b, a) <= 1e-5


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
