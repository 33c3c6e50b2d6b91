from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.compress.apply import compress
from explorer.compress.resolve import resolve
from explorer.core.errors import Cancelled, LoadError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.models.samples import load, samples
from explorer.models.subject import Subject
from tests.contract.nets import SAMPLES, CharLM, batch, classification, few, language, state, tiny, unchanged

TASK = classification((6,))


class Backwards(nn.Module):
    """Registered in the opposite order of use; with every kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(6, 3)
        self.norm = nn.LayerNorm((1, 6))
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.up = nn.ConvTranspose1d(5, 4, 1)
        self.conv = nn.Conv1d(2, 5, 3, padding=1)
        self.batch = nn.BatchNorm1d(5)
        self.free = nn.Parameter(torch.randn(1, 6))
        self.whole = nn.Parameter(torch.zeros(2, 2, dtype=torch.int64), requires_grad=False)
        self.vector = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.relu(self.batch(self.conv(x)))).transpose(1, 2)
        h, _ = self.gru(x)
        a, _ = self.attention(h, h, h)
        return self.head((self.norm(a.mean(1, keepdim=True)).squeeze(1) + self.free) * self.vector)


def test_layers_are_in_forward_order_with_their_kinds(device: str) -> None:
    subject = tiny(Backwards(), (2, 7), device=device)
    found = [(layer.name, layer.kind) for layer in subject.layers if layer.name != "free"]
    assert found == [
        ("conv.weight", "conv"),
        ("up.weight", "conv_transpose"),
        ("gru.weight_ih_l0", "gru"),
        ("gru.weight_hh_l0", "gru"),
        ("attention.in_proj_weight", "attention"),
        ("attention.out_proj.weight", "linear"),
        ("head.weight", "linear"),
        ("unused.weight", "linear"),
    ]
    other = next(layer for layer in subject.layers if layer.name == "free")
    assert other.kind == "other" and other.shape == (1, 6) and other.numel == 6
    assert subject.layer("gru.weight_hh_l0").shape == (18, 6)


def test_norms_biases_vectors_and_integers_are_no_layers(device: str) -> None:
    names = {layer.name for layer in tiny(Backwards(), (2, 7), device=device).layers}
    assert not names & {"norm.weight", "batch.weight", "conv.bias", "vector", "whole"}


def test_tied_weights_are_one_layer(device: str) -> None:
    subject = Subject(CharLM(tie=True).to(device), language(), "tied")
    names = [layer.name for layer in subject.layers]
    assert "embedding.weight" in names and "head.weight" not in names
    report = evaluate(subject, Recipe().prune("embedding", threshold=1e9), device=device)
    total = sum(p.numel() for p in subject.module.parameters())
    assert report.parameters == total and report.nonzero == evaluate(subject, device=device).nonzero - 11 * 6
    module = compress(subject, Recipe().prune("embedding", sparsity=0.5))
    assert module.head.weight is module.embedding.weight and (module.head.weight == 0).sum() == 33


def test_a_module_used_twice(device: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.again(F.relu(self.again(self.first(x))))))

    subject = tiny(Twice(), device=device)
    assert [layer.name for layer in subject.layers] == ["first.weight", "again.weight", "head.weight"]
    assert evaluate(subject, device=device).macs == 6 * 6 * 3 + 18
    for group in subject.groups:
        module = compress(subject, Recipe().prune(group.producers[0], sparsity=0.5, granularity="unit"))
        assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in subject.module.parameters())


def test_a_layer_that_sometimes_is_called_first_counts_by_its_first_call(device: str) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b, self.a = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = self.b(self.a(x))
            return x

    assert [layer.name for layer in tiny(Loop(), classes=6, device=device).layers] == ["a.weight", "b.weight"]


@pytest.mark.parametrize("training", [True, False])
def test_the_users_module_is_never_touched(training: bool, device: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
    )
    module.to(device).train(training)
    module[3].eval()
    module[0].bias.requires_grad_(False)
    module[5].weight.grad = torch.ones_like(module[5].weight)
    before, flags = state(module), [child.training for child in module.modules()]
    needs = [p.requires_grad for p in module.parameters()]
    version = [p._version for p in module.parameters()]
    subject = tiny(module, (1, 6, 6), device=device)
    recipe = Recipe().prune("0", sparsity=0.5, granularity="unit").prune("5", sparsity=0.3).quantize("*", bits=4)
    first = evaluate(subject, recipe, device=device)
    compressed = compress(subject, recipe)
    assert first.metrics == evaluate(subject, recipe, device=device).metrics
    assert unchanged(module, before) and [child.training for child in module.modules()] == flags
    assert [p.requires_grad for p in module.parameters()] == needs and [
        p._version for p in module.parameters()
    ] == version
    assert torch.equal(module[5].weight.grad, torch.ones_like(module[5].weight)) and module[0].weight.grad is None
    assert not compressed.training
    assert not any(
        child._forward_hooks or child._forward_pre_hooks for child in [*module.modules(), *compressed.modules()]
    )


def test_evaluating_uses_eval_mode_also_for_a_training_module(device: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.9), nn.Linear(64, 3)).train()
    subject = tiny(module, device=device)
    figure = evaluate(subject, device=device).metrics["loss"]
    x, y = batch(subject)
    with torch.no_grad():
        assert figure == pytest.approx(F.cross_entropy(module.eval()(x), y).item(), rel=1e-5)


def test_writing_to_the_weights_invalidates_what_was_cached(device: str) -> None:
    subject = tiny(device=device)
    recipe = Recipe().prune("fc.0", sparsity=0.5).quantize("fc.1", bits=4)
    first, mask, digest = (
        evaluate(subject, recipe, device=device),
        resolve(subject, recipe).masks["fc.0.weight"],
        subject.digest,
    )
    with torch.no_grad():
        subject.module.fc[0].weight.copy_(torch.randn(8, 6))
    second = evaluate(subject, recipe, device=device)
    assert subject.digest != digest and first.metrics["loss"] != second.metrics["loss"]
    assert not torch.equal(resolve(subject, recipe).masks["fc.0.weight"], mask)
    fresh = evaluate(Subject(subject.module, subject.task), recipe, device=device)
    assert fresh.metrics == second.metrics and fresh.bytes == second.bytes


@pytest.mark.parametrize("how", ["assign", "setattr", "load"])
def test_replacing_parameters_invalidates_what_was_cached(how: str, device: str) -> None:
    subject = tiny(device=device)
    recipe = Recipe().prune("fc.0", sparsity=0.5)
    evaluate(subject, recipe, device=device)
    new = {name: torch.randn_like(value) for name, value in subject.module.state_dict().items()}
    if how == "setattr":
        for i, layer in enumerate(subject.module.fc):
            layer.weight, layer.bias = nn.Parameter(new[f"fc.{i}.weight"]), nn.Parameter(new[f"fc.{i}.bias"])
    else:
        subject.module.load_state_dict(new, assign=how == "assign")
    assert torch.equal(subject.weight("fc.0.weight"), subject.module.fc[0].weight)
    fresh = Subject(subject.module, subject.task)
    assert evaluate(subject, recipe, device=device).metrics == evaluate(fresh, recipe, device=device).metrics
    assert torch.equal(resolve(subject, recipe).masks["fc.0.weight"], resolve(fresh, recipe).masks["fc.0.weight"])


def test_digest_is_of_the_content(device: str) -> None:
    a, b = tiny(device=device), tiny(device=device)
    assert a.digest == b.digest
    b.module.fc[0].bias.data[0] += 1
    assert a.digest != Subject(b.module, b.task).digest


def test_a_subject_that_nobody_uses_is_freed(device: str) -> None:
    subject = tiny(device=device)
    evaluate(subject, Recipe().prune("fc.0", sparsity=0.5), device=device)
    evaluate(subject, Recipe().prune("fc.0", sparsity=0.5), device=device, precision="fast")
    gone = weakref.ref(subject)
    weight = weakref.ref(subject.module)
    del subject
    gc.collect()
    assert gone() is None and weight() is None


def test_threads_may_open_a_subject_together(device: str) -> None:
    subject, found = tiny(device=device), []
    threads = [
        threading.Thread(target=lambda: found.append((subject.layers, [g.name for g in subject.groups])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(one == found[0] for one in found)


def test_opening_a_subject_within_inference_mode(device: str) -> None:
    with torch.inference_mode():
        subject = tiny(device=device)
    assert evaluate(subject, Recipe().prune("fc.0", sparsity=0.5), device=device).sparsity > 0.2
    assert [group.name for group in tiny(device=device).groups] == ["fc.0", "fc.1"]
    subject = tiny(device=device)
    with torch.inference_mode():
        assert [group.name for group in subject.groups] == ["fc.0", "fc.1"]
        evaluate(subject, Recipe().prune("fc.0", sparsity=0.5), device=device)
    with torch.no_grad():
        evaluate(tiny(device=device), device=device)


@pytest.mark.parametrize("module", [None, "resnet", {}, lambda x: x])
def test_what_is_no_module(module: Any) -> None:
    with pytest.raises(LoadError, match="nn.Module"):
        Subject(module, TASK)


def test_what_is_no_task(device: str) -> None:
    with pytest.raises(LoadError, match="Task"):
        Subject(nn.Linear(2, 2).to(device), {"validation": []})  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
def test_a_compiled_module_is_refused_by_its_name(device: str) -> None:
    module = nn.Sequential(nn.Linear(6, 4), torch.jit.script(nn.Linear(4, 3)))
    with pytest.raises(LoadError, match="'mine': 1 was compiled by torch.jit"):
        Subject(module.to(device), classification((6,)))


def test_uninitialized_parameters(device: str) -> None:
    with pytest.raises(LoadError, match="0.weight is not initialized"):
        Subject(nn.Sequential(nn.LazyLinear(3)).to(device), TASK)


def test_a_module_without_parameters_can_be_evaluated(device: str) -> None:
    subject = tiny(nn.Flatten(), (3,), device=device)
    report = evaluate(subject, device=device)
    assert subject.layers == [] and report.sparsity == 0 and report.macs is None and report.counts.macs_reason
    assert 0 <= report.metrics["accuracy"] <= 1


def test_unknown_sample_with_near_match() -> None:
    with pytest.raises(LoadError, match="did you mean fashion-resnet"):
        load("fashion-resnt")
    for wrong in ("", "../../etc/passwd", None, 3):
        with pytest.raises(LoadError):
            load(wrong)  # type: ignore[arg-type]


def test_samples_are_shared() -> None:
    assert len(samples()) == 9
    assert load("bikes-mlp") is load("bikes-mlp")


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_layers(name: str, device: str) -> None:
    subject = few(name, device=device)
    weights = {n for n, p in subject.module.named_parameters() if p.ndim >= 2}
    assert {layer.name for layer in subject.layers} == weights
    for layer in subject.layers:
        assert layer.numel == subject.weight(layer.name).numel() and layer.kind != "norm"
    kinds = {layer.kind for layer in subject.layers}
    assert kinds <= {"conv", "linear", "rnn", "lstm", "gru", "embedding", "other"}


def test_a_survey_finds_what_is_found_unseen_tells_how_far_it_is_and_can_be_cancelled(device: str) -> None:
    layers = [part for _ in range(8) for part in (nn.Linear(6, 6), nn.Tanh())]
    subject, other = (tiny(nn.Sequential(*layers, nn.Linear(6, 3)), device=device) for _ in range(2))
    told: list[tuple[int, int]] = []
    with pytest.raises(Cancelled, match="tiny: cancelled"):
        subject.survey(lambda *at: told.append(at), cancel=lambda: len(told) == 3)
    assert not subject.surveyed and len(told) == 3
    told.clear()
    subject.survey(lambda *at: told.append(at))
    assert subject.surveyed and told == sorted(told) and told[0] == (0, 16) and told[-1] == (8, 16)
    assert [g.name for g in subject.groups] == [g.name for g in other.groups] and not other.surveyed
    told.clear()
    subject.survey(lambda *at: told.append(at))
    assert not told  # it is known
