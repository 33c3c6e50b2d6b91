"""Random small networks of many parts: what is found removable is removed exactly, and everything else has a reason."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from explorer.compress.apply import compress, verify
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from explorer.export.exporters import registry
from explorer.export.files import load_exported
from explorer.models.groups import propose
from explorer.models.subject import Subject
from explorer.models.trial import why_not
from tests.contract.nets import classification, randomize, state, unchanged
from tests.structure.nets_transformer import Attention

ACTIVATIONS = (torch.relu, torch.sigmoid, nn.functional.gelu, nn.functional.hardswish)


@dataclass(frozen=True)
class Part:
    kind: str
    width: int
    act: int
    flag: bool  # a bias, a direction, a norm: whatever the part has two of


IMAGE = ("conv", "norm", "residual", "concat", "depthwise", "pool", "gate", "transposed", "grouped")
TIME = ("conv", "norm", "residual", "concat", "lstm", "gru", "rnn", "linear")
WIDE = ("attention", "feed forward", "linear")
FLAT = ("linear", "norm", "residual", "concat", "gate", "twice")


class Layer(nn.Module):
    """One part: [N, C, ...] -> [N, C', ...], channels second."""

    def __init__(self, part: Part, width: int, rank: int) -> None:
        super().__init__()
        self.part, self.rank, self.act = part, rank, ACTIVATIONS[part.act]
        convolution = {1: nn.Linear, 2: nn.Conv1d, 3: nn.Conv2d}[rank]
        padded = {"kernel_size": 3, "padding": 1} if rank > 1 else {}

        def make(a: int, b: int, **more: object) -> nn.Module:
            return convolution(a, b, bias=part.flag, **(padded | more))

        kind = part.kind
        self.out_width = part.width
        if kind in ("conv", "linear"):
            self.a = make(width, part.width) if kind == "conv" else nn.Linear(width, part.width, bias=part.flag)
        elif kind == "norm":
            self.a, self.out_width = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}[rank](width), width
        elif kind in ("residual", "gate"):
            self.a, self.b, self.out_width = make(width, part.width), make(part.width, width), width
        elif kind == "concat":
            self.a, self.out_width = make(width, part.width), width + part.width
        elif kind == "depthwise":
            self.a, self.out_width = make(width, width, groups=width), width
        elif kind == "grouped":  # width is whatever came before: the groups are its divisors
            groups = max(g for g in (1, 2, 3) if width % g == 0)
            self.out_width = groups * part.width
            self.a = (nn.ConvTranspose2d if part.act % 2 else nn.Conv2d)(
                width, self.out_width, 3, padding=1, groups=groups, bias=part.flag
            )
        elif kind == "transposed":
            self.a = nn.ConvTranspose2d(width, part.width, 3, padding=1, bias=part.flag)
        elif kind == "pool":
            self.out_width = width
        elif kind == "twice":
            self.a, self.out_width = nn.Linear(width, width, bias=part.flag), width
        elif kind in ("lstm", "gru", "rnn"):
            make_rnn = getattr(nn, kind.upper())
            self.a = make_rnn(width, part.width, 1 + part.act % 2, batch_first=True, bidirectional=part.flag)
            self.out_width = part.width * (1 + part.flag)
        elif kind == "attention":
            self.norm, self.a, self.out_width = (
                nn.LayerNorm(width),
                Attention(("unbind", "chunk", "matmul", "masked")[part.act], width),
                width,
            )
        else:  # feed forward
            self.norm, self.a, self.b = nn.LayerNorm(width), nn.Linear(width, part.width), nn.Linear(part.width, width)
            self.out_width = width

    def forward(self, x: Tensor) -> Tensor:
        kind, act = self.part.kind, self.act
        if kind in ("conv", "depthwise", "transposed", "grouped") or kind == "linear" and self.rank == 1:
            return act(self.a(x))
        if kind == "linear":
            return act(self.a(x.transpose(1, 2))).transpose(1, 2)
        if kind == "norm":
            return act(self.a(x))
        if kind == "residual":
            return act(x + self.b(act(self.a(x))))
        if kind == "gate":
            return x * torch.sigmoid(self.b(act(self.a(x))))
        if kind == "concat":
            return torch.cat([x, act(self.a(x))], 1)
        if kind == "pool":
            return nn.functional.max_pool2d(x, 2) if self.part.flag else nn.functional.avg_pool2d(x, 2)
        if kind == "twice":
            return act(self.a(act(self.a(x))))
        if kind in ("lstm", "gru", "rnn"):
            return self.a(x.transpose(1, 2))[0].transpose(1, 2)
        h = x.transpose(1, 2)
        inner = self.a(self.norm(h)) if kind == "attention" else self.b(act(self.a(self.norm(h))))
        return (h + inner).transpose(1, 2)


class Generated(nn.Module):
    def __init__(self, rank: int, first: int, parts: list[Part], end: str, size: int) -> None:
        super().__init__()
        self.stem = {1: nn.Linear, 2: nn.Conv1d, 3: nn.Conv2d}[rank](
            3, first, **({"kernel_size": 1} if rank > 1 else {})
        )
        made, width = [], first
        for part in parts:
            made.append(Layer(part, width, rank))
            width = made[-1].out_width
        self.parts, self.end = nn.ModuleList(made), "flatten" if rank == 1 else end
        pixels = size ** (rank - 1)
        for part in parts:
            pixels //= 4 if part.kind == "pool" else 1
        self.head = nn.Linear(width * pixels if self.end == "flatten" else width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x))
        for part in self.parts:
            x = part(x)
        x = (
            x.flatten(1)
            if self.end == "flatten"
            else x.flatten(2).mean(-1)
            if self.end == "mean"
            else x.flatten(2)[..., -1]
        )
        return self.head(x)


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    rank, kinds = draw(st.sampled_from([(1, FLAT), (2, TIME), (2, WIDE), (3, IMAGE)]))
    part = st.builds(Part, st.sampled_from(kinds), st.integers(2, 7), st.integers(0, 3), st.booleans())
    parts = draw(st.lists(part, min_size=1, max_size=5))
    if kinds is WIDE:  # attention needs a width that three heads divide
        parts = [p if p.kind != "linear" else Part("linear", 3 * (1 + p.width % 3), p.act, p.flag) for p in parts]
    if sum(p.kind == "pool" for p in parts) > 2:
        parts = [p for p in parts if p.kind != "pool"]
    parts = parts or [Part("conv", 4, 0, True)]
    first = draw(st.sampled_from([3, 6])) if kinds is WIDE else draw(st.integers(2, 6))
    size = {1: 1, 2: 5, 3: 4}[rank]
    net = Generated(rank, first, parts, draw(st.sampled_from(["flatten", "mean", "last"])), size)
    return net, (3,) + (size,) * (rank - 1)


def round_trip(subject: Subject, plan: Plan, module: nn.Module, name: str) -> None:
    """Written as a file, opened again without the module's code, same outputs at several batch sizes."""
    exporter = registry[name]()
    with tempfile.TemporaryDirectory() as folder:
        written = exporter.write(subject, plan, module, Path(folder))
        assert not any("weights only" in note for note in written.notes)  # the structure lies in the file, too
        assert exporter.verify(subject, plan, module, Path(folder)) <= exporter.tolerance
        if name == "safetensors":
            loaded = load_exported(folder)
            sizes = {n: p.shape for n, p in module.named_parameters()}
            assert {n: p.shape for n, p in loaded.named_parameters()} == sizes


def check(
    made: tuple[nn.Module, tuple[int, ...]], seed: int, sparsity: float, device: str, files: tuple[str, ...] = ()
) -> None:
    module, shape = made
    subject = Subject(randomize(module, seed).to(device), classification(shape, n=12, seed=seed), "generated")
    before, digest = state(subject.module), subject.digest
    proposed, _ = propose(subject)
    for cut in proposed:  # the flow is right by itself: the trial finds nothing to refuse in these nets
        assert cut.group.units == 1 or why_not(subject, cut) is None, cut.group
    for layer in subject.layers:
        assert layer.group or len(subject.structure.refused[layer.name]) > 10
    if subject.groups:
        plan = resolve(subject, Recipe().prune("*", sparsity=sparsity, granularity="unit"))
        if plan.kept:
            smaller = compress(subject, plan)
            assert verify(subject, plan, smaller, 6) <= 1e-5
            expected = counts(subject, plan).parameters
            assert (
                sum(p.numel() for p in smaller.parameters()) == expected < sum(p.numel() for p in module.parameters())
            )
            for name in files:
                round_trip(subject, plan, smaller, name)
    if subject.blocks:
        every = Recipe().prune("*", threshold=1e9, granularity="layer")
        plan = resolve(subject, every.prune("*", sparsity=sparsity, granularity="unit"))
        assert set(plan.removed) == {group.name for group in subject.blocks}
        smaller = compress(subject, plan)
        assert verify(subject, plan, smaller, 6) <= 1e-5
        assert sum(p.numel() for p in smaller.parameters()) == counts(subject, plan).parameters
    assert unchanged(subject.module, before) and subject.digest == digest


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(networks(), st.integers(0, 5), st.sampled_from([0.3, 0.5, 0.99]))
def test_generated_networks(device: str, made: tuple[nn.Module, tuple[int, ...]], seed: int, sparsity: float) -> None:
    check(made, seed, sparsity, device, ("safetensors",))


@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(networks(), st.integers(0, 5))
def test_generated_networks_in_onnx_runtime(device: str, made: tuple[nn.Module, tuple[int, ...]], seed: int) -> None:
    check(made, seed, 0.5, device, ("onnx",))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=QUIET)
@given(networks(), st.integers(0, 5), st.sampled_from([0.2, 0.5, 0.99]))
def test_many_generated_networks_in_files(
    device: str, made: tuple[nn.Module, tuple[int, ...]], seed: int, sparsity: float
) -> None:
    check(made, seed, sparsity, device, ("safetensors", "onnx", "pt2"))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(networks(), st.integers(0, 5), st.sampled_from([0.2, 0.3, 0.5, 0.7, 0.99]))
def test_many_generated_networks(
    device: str, made: tuple[nn.Module, tuple[int, ...]], seed: int, sparsity: float
) -> None:
    check(made, seed, sparsity, device)
