"""A model whose changed weights are made layer by layer gives what the one that holds all of them gives, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import explorer
from explorer.compress.build import effective_weights
from explorer.evaluate.engine import engine
from explorer.models.replica import Replica
from explorer.models.subject import Subject
from explorer.models.trial import tensors
from tests.contract.nets import SAMPLES, CharLM, few, sample, tuned


class Own(nn.Linear):
    """A layer of somebody's own, which is no module of torch.nn."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t().contiguous().t(), self.bias) * self.weight.shape[0]


class Reader(nn.Module):
    """Reads another module's weight, which it does not hold."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.others = [other]
        self.table = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch.cat([self.others[0].weight.data, self.table]))[..., :6] @ self.table.T


class Shared(nn.Module):
    """One module at two depths, one weight in two modules, one that a function reads, own modules inside of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Linear(6, 6), Own(6, 6)
        self.chain = nn.Sequential(self.twice, nn.ReLU(), Reader(self.first), nn.Sequential(nn.Linear(6, 6), nn.GELU()))
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.tied(self.chain(self.twice(self.first(x))))
        return F.linear(h, self.first.weight) + self.chain[3][0].weight.sum() + h @ self.tied.weight.T


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.gru = nn.LSTMCell(6, 5), nn.GRU(5, 6, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            out.append(state[0])
        return self.gru(torch.stack(out, 1))[0]


class Encoder(nn.Module):
    """Torch's fused kernel, nested tensors, and a decoder beside them."""

    def __init__(self, first: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=first)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        mask[0, -2:] = True
        h = self.encoder(self.up(x), src_key_padding_mask=mask)
        h = F.pad(h, (0, 0, 0, x.shape[1] - h.shape[1]))
        return self.attention(h, h, h)[0] + self.decoder(h, h)


class Mixed(nn.Module):
    """Weights that it holds itself, convolutions, an embedding whose rows are looked up by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.conv = nn.Parameter(torch.randn(1, 6, 6)), nn.Conv1d(6, 6, 3, padding=1)
        self.rows, self.norm = nn.Embedding(9, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(torch.einsum("bti,oij->btj", x, self.start).mT).mT)
        return h + F.embedding(x.abs().long().sum(-1) % 9, self.rows.weight) * self.rows.weight.T.mean(1)


NETS: dict[str, Callable[[], nn.Module]] = {
    "shared": Shared, "cells": Cells, "encoder": Encoder, "encoder, norm first": lambda: Encoder(True), "mixed": Mixed,
    "lstm": lambda: nn.LSTM(6, 5, 2, batch_first=True, proj_size=3),
}  # fmt: skip


def halved(module: nn.Module) -> dict[str, Tensor]:
    """{parameter: itself with half of its entries zero}."""
    return {
        name: p.detach() * (torch.arange(p.numel(), device=p.device).view(p.shape) % 2)
        for name, p in module.named_parameters()
    }


@torch.inference_mode()
def both(module: nn.Module, x: Tensor, device: str) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Outputs with all changed weights in place, with those of one layer at a time, and of the module as it is."""
    found = []
    for large in (None, 0):
        with Replica(module, device, large=large).weights(halved(module)) as masked:
            found.append(tensors(masked(x)))
    return found[0], found[1], tensors(module(x))


@pytest.mark.parametrize("net", NETS)
def test_equal_to_the_last_bit(net: str, device: str) -> None:
    torch.manual_seed(0)
    module = NETS[net]().eval().to(device)
    whole, turns, plain = both(module, torch.randn(4, 7, 6).to(device), device)
    assert all(torch.equal(a, b) for a, b in zip(whole, turns, strict=True))
    assert not torch.allclose(whole[0], plain[0], atol=1e-4)


def test_a_tied_embedding(device: str) -> None:
    torch.manual_seed(0)
    module = CharLM(tie=True).eval().to(device)
    whole, turns, plain = both(module, torch.randint(0, 11, (3, 7)).to(device), device)
    assert torch.equal(whole[0], turns[0]) and not torch.allclose(whole[0], plain[0], atol=1e-4)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str, device: str) -> None:
    subject = sample(name, device)
    recipe = explorer.Recipe().prune("*", sparsity=0.6).quantize("*", bits=5)
    weights, inputs = effective_weights(subject, explorer.resolve(subject, recipe)), subject.example(4)
    found = []
    for large in (None, 0):
        with torch.inference_mode(), Replica(subject.module, device, large=large).weights(weights) as masked:
            found.append(subject.task.forward(masked, inputs))
    assert torch.equal(*found)


@pytest.mark.parametrize("tier", ["graph", "order of calls"])
def test_replay(tier: str, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Evaluations, which begin at what changed, also where activations are rounded."""
    whole = few("vowels-lstm", 48, device)
    task, last = whole.task, whole.layers[-1].name
    if tier != "graph":  # the task calls the module in a way of its own
        splits = {name: task.dataset(name) for name in ("train", "validation")}
        score = lambda out, y: {"hit": (out.argmax(-1) == y).float(), "top": out.amax(-1)}  # noqa: E731
        task = explorer.Task(splits=splits, forward=lambda module, x: module(x), score=score)
    recipe = explorer.Recipe().prune("*", sparsity=0.7)
    recipes = [
        explorer.Recipe(),
        recipe,
        recipe.prune(last, sparsity=0.2),
        recipe.quantize(last, bits=3, what="activation"),
    ]
    seen = []
    monkeypatch.setattr("explorer.evaluate.recurrent_pace.by_hand", lambda *_: False)  # steps by hand differ in a last bit
    for large in (1 << 40, 0):
        monkeypatch.setattr("explorer.models.replica.LARGE", large)
        monkeypatch.setattr("explorer.models.replica.PIECE", 0)
        subject = tuned(Subject(whole.module, task, "few"), batch=16)
        run = engine(subject, torch.device(device))
        assert (run.replica.layered is not None) == (large == 0) and run.runner.tier == tier
        seen.append([dict(explorer.evaluate(subject, one, device=device).metrics) for one in recipes])
    assert seen[0] == seen[1] and len({tuple(one.values()) for one in seen[0]}) == len(recipes)


class Made(Mapping[str, Tensor]):
    """Makes a weight anew at every look, and knows how many of its tensors are still in memory."""

    def __init__(self, module: nn.Module) -> None:
        self.base = {name: p.detach() for name, p in module.named_parameters() if p.ndim > 1}
        self.alive: list[StorageWeakRef] = []
        self.looks: list[str] = []
        self.most = 0

    def __getitem__(self, name: str) -> Tensor:
        made = self.base[name] * 0.5
        self.alive = [one for one in self.alive if not one.expired()] + [StorageWeakRef(made.untyped_storage())]
        self.most = max(self.most, len(self.alive))
        self.looks.append(name)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)


def test_one_layer_at_a_time(device: str) -> None:
    torch.manual_seed(0)
    module = (
        nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(5)], nn.Conv1d(4, 4, 1))
        .eval()
        .to(device)
    )
    made = Made(module)
    with torch.inference_mode(), Replica(module, device, large=0).weights(made) as masked:
        masked(torch.randn(2, 4, 8).to(device))
        assert made.most == 1 and made.looks == list(made.base)
        masked[0](torch.randn(2, 8).to(device))  # a part alone
        assert made.most == 1 and made.looks[-1] == "0.0.weight"
    encoder = Encoder().eval().to(device)
    made = Made(encoder)
    with torch.inference_mode(), Replica(encoder, device, large=0).weights(made) as masked:
        masked(torch.randn(2, 4, 6).to(device))
    assert made.most == 4  # what torch's fused layer multiplies by


def test_small_weights_and_small_models_are_simply_put_in_place(device: str) -> None:
    module = nn.Sequential(nn.Linear(700, 700), nn.Linear(700, 3)).to(device)
    for large, looks in ((None, ["0.weight", "1.weight"]), (1 << 19, ["1.weight"])):
        made = Made(module)
        replica = Replica(module, device, large=large)
        replica.piece = 1 << 20
        with replica.weights(made):
            assert made.looks == looks


class Fails(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.relu:
            raise ZeroDivisionError
        return func(*args, **(kwargs or {}))


def test_nothing_stays_behind_after_an_exception(device: str) -> None:
    torch.manual_seed(0)
    module, x = Shared().eval().to(device), torch.randn(2, 7, 6).to(device)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    replica = Replica(module, device, large=0)
    plain = replica.module(x)
    with pytest.raises(RuntimeError), replica.weights(halved(module)) as masked:
        masked(x[..., :5])
    outer = Fails()
    with outer, pytest.raises(ZeroDivisionError), replica.weights(halved(module)) as masked:
        masked.first.register_forward_hook(lambda *_: torch.relu(x))
        try:
            masked(x)
        finally:
            masked.first._forward_hooks.clear()
            assert outer in _get_current_function_mode_stack()
    assert not _get_current_function_mode_stack()
    assert torch.equal(replica.module(x), plain)
    assert all(
        torch.equal(p, before[name]) for name, p in [*module.named_parameters(), *replica.module.named_parameters()]
    )
