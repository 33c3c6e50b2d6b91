from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from explorer.compress.apply import compress
from explorer.core.errors import ExplorerError
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import representations
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.macs import count
from explorer.models.subject import Subject
from tests.contract.nets import MLP, SAMPLES, CharLM, few, language, tiny


def test_representations_by_hand() -> None:
    found = representations(numel=100, nonzero=10, rows=5)
    assert found == {"dense": 400, "bitmap": 13 + 40, "csr": 10 * 4 + 6 * 4 + 40}
    four = representations(100, 10, 5, bits=4, overhead=25)
    assert four == {"dense": 50 + 25, "bitmap": 13 + 5 + 25, "csr": 40 + 24 + 5 + 25}
    assert representations(7, 3, 1, bits=3)["dense"] == 3 and representations(7, 3, 1, bits=3)["bitmap"] == 1 + 2


def test_sizes_of_a_tiny_model_by_hand(device: str) -> None:
    """6 -> 8 -> 5 -> 3: weights of 48, 40, 15 entries, 16 biases."""
    subject = tiny(device=device)
    base = evaluate(subject, device=device)
    assert base.parameters == 103 + 16 and base.sizes["dense"] == 4 * 119 == base.bytes
    pruned = evaluate(subject, Recipe().prune("fc.0", sparsity=0.75), device=device)
    assert pruned.counts.layers["fc.0.weight"].bytes == 6 + 12 * 4  # bitmap; CSR would be 12 * 4 + 9 * 4 + 48
    assert pruned.bytes == 54 + 4 * (40 + 15 + 16) and pruned.sizes["dense"] == 476
    assert pruned.sizes["sparse"] == 54 + (5 + 160 if 5 + 160 < 160 + 24 + 160 else 0) + (2 + 60) + 64
    assert pruned.sparsity == pytest.approx(36 / 103) and pruned.nonzero == 119 - 36
    coded = evaluate(subject, Recipe().quantize("fc.1", bits=4, granularity="channel", scheme="affine"), device=device)
    assert coded.counts.layers["fc.1.weight"].bytes == min(20 + 25, coded.counts.layers["fc.1.weight"].bytes)
    assert (
        coded.sizes["quantized"] == (20 + 5 * 5) + 4 * (48 + 15 + 16) and coded.counts.layers["fc.1.weight"].bits == 4
    )
    symmetric = evaluate(subject, Recipe().quantize("fc.1", bits=8), device=device)
    assert symmetric.sizes["quantized"] == (40 + 4) + 4 * (48 + 15 + 16)
    nothing = evaluate(subject, Recipe().prune("fc.0", threshold=1e9), device=device)
    assert nothing.counts.layers["fc.0.weight"].bytes == 6


def test_scales_of_activations_are_counted(device: str) -> None:
    subject = tiny(device=device)
    weights = Recipe().quantize("*", bits=8)
    plain = evaluate(subject, weights, device=device)
    both = evaluate(subject, weights.quantize("*", bits=8, what="activation"), device=device)
    assert both.bytes == plain.bytes + 3 * 5 and both.sizes["quantized"] == plain.sizes["quantized"] + 3 * 5
    assert both.sizes["dense"] == plain.sizes["dense"] and both.sizes["sparse"] == plain.sizes["sparse"]
    one = evaluate(subject, Recipe().quantize("fc.1", bits=4, what="activation", scheme="symmetric"), device=device)
    assert one.bytes == 4 * 119 + 4  # no zero point


def test_sizes_after_units_went(device: str) -> None:
    subject = tiny(device=device)
    recipe = (
        Recipe()
        .prune("fc.0", sparsity=0.5, granularity="unit")
        .quantize("*", bits=8, granularity="channel", scheme="affine")
    )
    report = evaluate(subject, recipe, device=device)
    shapes = {"fc.0.weight": (4, 6), "fc.1.weight": (5, 4), "fc.2.weight": (3, 5)}
    assert {name: layer.shape for name, layer in report.counts.layers.items()} == shapes
    assert report.parameters == 24 + 20 + 15 + 4 + 5 + 3
    assert report.sizes["quantized"] == (24 + 5 * 4) + (20 + 5 * 5) + (15 + 5 * 3) + 4 * 12
    assert report.sizes["dense"] == 4 * report.parameters
    left = sum(layer.nonzero for layer in report.counts.layers.values())
    assert report.sparsity == pytest.approx(1 - left / 103) and report.counts.zeros_left == pytest.approx(1 - left / 59)
    module = compress(subject, recipe)
    assert report.nonzero == sum(int(torch.count_nonzero(p)) for p in module.parameters())
    assert report.parameters == sum(p.numel() for p in module.parameters())


def test_scales_of_transposed_convolutions_are_counted_along_their_channels(device: str) -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.head = nn.ConvTranspose1d(2, 16, 2), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.up(x)).mean(-1))

    subject = tiny(Up(), (2, 4), device=device)
    recipe = Recipe().quantize("up", bits=4, granularity="channel")
    assert evaluate(subject, recipe, device=device).sizes["quantized"] == (32 + 16 * 4) + 4 * (48 + 16 + 3)
    cut = evaluate(subject, recipe.prune("up", sparsity=0.5, granularity="unit"), device=device)
    assert cut.sizes["quantized"] == (16 + 8 * 4) + 4 * (24 + 8 + 3)


def test_buffers_and_norms_are_counted(device: str) -> None:
    subject = tiny(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)),
        (1, 6, 6),
        device=device,
    )
    report = evaluate(subject, device=device)
    assert report.parameters == 36 + 4 + 8 + 192 + 3 and report.bytes == 4 * (report.parameters + 4 + 4 + 1)
    cut = evaluate(subject, Recipe().prune("0", sparsity=0.5, granularity="unit"), device=device)
    assert cut.parameters == 18 + 2 + 4 + 96 + 3 and cut.sizes["dense"] == 4 * (cut.parameters + 2 + 2 + 1)


def test_macs_by_hand(device: str) -> None:
    assert evaluate(tiny(device=device), device=device).macs == 48 + 40 + 15
    conv = tiny(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(24, 3)),
        (1, 6, 6),
        device=device,
    )
    assert evaluate(conv, device=device).macs == 4 * 9 * 16 + 6 * 2 * 9 * 4 + 72
    units = evaluate(tiny(device=device), Recipe().prune("fc.0", sparsity=0.5, granularity="unit"), device=device)
    assert units.macs == 24 + 20 + 15
    zeros = evaluate(tiny(device=device), Recipe().prune("fc.0", sparsity=0.5), device=device)
    assert zeros.macs == 103 and zeros.counts.macs_if_zeros_skipped == 103 - 24


def counted(module: nn.Module, subject: Subject) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.to("meta")(subject.task.example(1).to("meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", SAMPLES)
def test_macs_equal_the_flop_counter_on_the_real_module(name: str, device: str) -> None:
    subject = few(name, device=device)
    recipe = Recipe().quantize("*", bits=4).prune("*", sparsity=0.4, granularity="unit")
    report = evaluate(subject, recipe, device=device)
    assert report.macs == counted(compress(subject, recipe), subject) > 0
    base = evaluate(subject, device=device)
    assert base.macs == counted(subject.copy(), subject)
    assert report.macs < base.macs


@pytest.mark.parametrize("name", SAMPLES)
def test_macs_if_zeros_were_skipped(name: str, device: str) -> None:
    subject = few(name, device=device)
    base = evaluate(subject, device=device)
    assert base.counts.macs_if_zeros_skipped == pytest.approx(base.macs, rel=1e-3)
    nothing = evaluate(subject, Recipe().prune("*", threshold=1e9), device=device)
    assert 0 <= nothing.counts.macs_if_zeros_skipped < 0.25 * base.macs  # attention's own products have no weights


def test_a_parameter_that_multiplies_nothing_saves_nothing(device: str) -> None:
    """A position embedding at the root is added: its zeros skip no product of the layers inside."""
    subject = few("fashion-vit", device=device)
    report = evaluate(subject, Recipe().prune("position", threshold=1e9), device=device)
    assert report.counts.macs_if_zeros_skipped == pytest.approx(report.macs, rel=1e-3)
    one = evaluate(subject, Recipe().prune("blocks.0.fc1", threshold=1e9), device=device)
    assert one.macs - one.counts.macs_if_zeros_skipped == 16 * 64 * 128


class Lengths(nn.Module):
    """Packs by lengths derived inside, which the meta device cannot do."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        lengths = (x != 0).any(-1).sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0][-1])


class Plain(nn.Module):
    """Keeps a tensor as a plain attribute, which does not follow to the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.table = nn.Linear(6, 3), torch.randn(1, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((x[x.sum(1) > -1e9].cpu() + self.table).to(x.device))


class NoProduct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, :3] * self.scale).cumsum(1)


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [(Lengths(), (5, 3), 5 * (48 + 64) + 12), (Plain(), (6,), 18), (NoProduct(), (6,), None)],
)
def test_where_meta_fails_there_is_a_count_or_a_reason_never_zero(
    module: nn.Module, shape: Any, macs: int | None, device: str
) -> None:
    report = evaluate(tiny(module, shape, device=device), device=device)
    assert report.macs == macs and report.metrics["accuracy"] >= 0
    assert bool(report.counts.macs_reason) == (macs is None)


def test_counting_is_not_disturbed_by_other_threads(device: str) -> None:
    """torch's counter hooks every module of the process; what others run meanwhile must not enter the count."""
    subject, stop = Subject(CharLM().to(device), language()), threading.Event()
    base = count(subject, {})

    def others() -> None:
        model, x = CharLM().to(device), torch.zeros(2, 7, dtype=torch.long, device=device)
        with torch.no_grad():
            while not stop.is_set():
                model(x)

    threads = [threading.Thread(target=others) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            fresh = Subject(subject.module, subject.task)
            found = count(fresh, {})
            assert found.total == base.total and dict(found.modules) == dict(base.modules)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_counts_are_cached_by_content(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    from explorer.evaluate import macs

    runs: list[int] = []
    run = macs._run
    monkeypatch.setattr(macs, "_run", lambda *a: runs.append(1) or run(*a))
    subject = tiny(device=device)
    for sparsity in (0.1, 0.5, 0.9):
        assert evaluate(subject, Recipe().prune("*", sparsity=sparsity), device=device).macs == 103
    assert len(runs) == 1
    report = evaluate(subject, device=device)
    assert report.counts is report.counts and len(runs) == 1


def test_a_drag_counts_the_layer_that_it_changes(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    from explorer.evaluate import costs

    subject, counted = tiny(MLP((6, 8, 5, 3)), device=device), []
    assert evaluate(subject, device=device).sparsity == 0  # every layer, once
    layer = costs._layer
    monkeypatch.setattr(costs, "_layer", lambda subject, one, *more: counted.append(one.name) or layer(subject, one, *more))
    for k in (3, 6, 9):
        report = evaluate(subject, Recipe().prune("fc.2.weight", sparsity=k / 15), device=device)
        assert report.counts.layers["fc.2.weight"].nonzero == 15 - k
        assert report.sparsity == pytest.approx(k / (48 + 40 + 15))
    assert counted == ["fc.2.weight"] * 3


def test_sparsity_per_layer(device: str) -> None:
    subject = tiny(MLP((6, 8, 5, 3)), device=device)
    report = evaluate(
        subject, Recipe().prune("fc.0", sparsity=0.5, granularity="unit").prune("fc.1", sparsity=0.5), device=device
    )
    layers = report.counts.layers
    assert layers["fc.0.weight"].sparsity == 0.5 and layers["fc.0.weight"].zeros_left == 0
    assert layers["fc.1.weight"].sparsity == 0.75 and layers["fc.1.weight"].zeros_left == 0.5
    assert layers["fc.2.weight"].sparsity == 0


@pytest.mark.parametrize("name", ["vowels-rnn", "bikes-mlp"])
def test_a_report_is_plain_json(name: str, device: str) -> None:
    report = evaluate(few(name, device=device), Recipe().prune("*", sparsity=0.5).quantize("*", bits=4), device=device)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["metrics"][report.main]["value"] == report.metrics[report.main]
    assert (
        plain["metrics"][report.main] | {"kind": "measured", "split": "validation", "n": 48}
        == plain["metrics"][report.main]
    )
    assert plain["counted"]["sparsity"] == pytest.approx(report.sparsity) and plain["counted"]["bytes"] == report.bytes
    assert plain["recipe"] == report.recipe.digest


def test_figures_say_what_they_are(device: str) -> None:
    report = evaluate(tiny(device=device), device=device)
    assert report.figure("accuracy").kind == "measured" and report.figure("accuracy").split == "validation"
    for name in ("sparsity", "bytes", "macs", "parameters", "nonzero"):
        assert report.figure(name).kind == "counted" and report.figure(name).value == getattr(report, name)
    with pytest.raises(ExplorerError, match="did you mean accuracy"):
        report.figure("acuracy")
    with pytest.raises(ExplorerError, match="loss"):
        report.change("los")
