"""Agreement with the original's own outputs: against plain formulas, without a label."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import explorer
from explorer.core.errors import TaskError
from tests.contract.nets import MLP, CharLM, randomize


def test_metrics_equal_the_formulas(device: str) -> None:
    module = randomize(MLP()).to(device)
    inputs = torch.randn(50, 6)
    subject = explorer.Subject(module, explorer.Task.agreement(inputs))
    original = explorer.evaluate(subject, device=device)
    assert (
        original.metrics["agreement"] == 1 and original.metrics["kl"] < 1e-6 and original.metrics["cosine"] > 1 - 1e-5
    )
    recipe = explorer.Recipe().prune("*", sparsity=0.8)
    report = explorer.evaluate(subject, recipe, device=device)
    with torch.no_grad():
        was, now = (m(inputs.to(device)).double().cpu() for m in (module, explorer.compress(subject, recipe)))
    p, q = was.softmax(-1), now.softmax(-1)
    assert report.metrics["agreement"] == pytest.approx((was.argmax(1) == now.argmax(1)).double().mean().item())
    assert report.metrics["kl"] == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-4)
    assert report.metrics["cosine"] == pytest.approx(F.cosine_similarity(now, was).mean().item(), rel=1e-4)
    assert "kl" in report.lower_is_better and "agreement" not in report.lower_is_better
    assert 0 < report.metrics["agreement"] < 1 and report.changes["agreement"].low is not None


def test_single_numbers_have_a_difference(device: str) -> None:
    module = randomize(MLP(widths=(6, 5, 1))).to(device)
    inputs = torch.randn(40, 6)
    subject = explorer.Subject(module, explorer.Task.agreement(inputs))
    recipe = explorer.Recipe().prune("fc.0", sparsity=0.5)
    with torch.no_grad():
        gap = (explorer.compress(subject, recipe)(inputs.to(device)) - module(inputs.to(device))).abs().mean().item()
    report = explorer.evaluate(subject, recipe, device=device)
    assert list(report.metrics) == ["difference"] and report.metrics["difference"] == pytest.approx(gap, rel=1e-4)


def test_sequences_dicts_and_logits_that_are_ruled_out(device: str) -> None:
    tokens = torch.randint(0, 11, (20, 7))
    sequence = explorer.Subject(CharLM().to(device), explorer.Task.agreement(tokens))
    assert explorer.evaluate(sequence, explorer.Recipe().prune("lstm", sparsity=0.9), device=device).metrics["kl"] > 0

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.fc(x + y).index_fill(1, torch.tensor([2], device=x.device), float("-inf"))}

    inputs = [{"x": torch.randn(4), "y": torch.randn(4)} for _ in range(10)]
    subject = explorer.Subject(Masked().to(device), explorer.Task.agreement(inputs))
    assert (
        0 <= explorer.evaluate(subject, explorer.Recipe().prune("fc", sparsity=0.5), device=device).metrics["kl"] < 10
    )


def test_the_original_answers_once_and_a_new_model_is_judged_by_its_own_outputs(device: str) -> None:
    calls = []

    class Counted(MLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return super().forward(x)

    task = explorer.Task.agreement(torch.randn(30, 6))
    first = explorer.Subject(randomize(Counted()).to(device), task)
    assert not calls  # nothing is computed before it is asked for
    assert first.task.dataset("validation")[0][1].shape == (3,) and sum(calls) == 30
    _ = first.task.dataset("validation")[29]
    assert sum(calls) == 30
    second = explorer.Subject(randomize(MLP(), seed=5).to(device), first.task)
    assert explorer.evaluate(second, device=device).metrics["agreement"] == 1


@pytest.mark.parametrize("inputs", [None, 5, iter([1]), []])
def test_inputs_that_are_no_data_set(inputs: object) -> None:
    with pytest.raises(TaskError, match="validation"):
        explorer.Task.agreement(inputs)


def test_a_loss_of_ones_own_stays(device: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(32, 4)
    task = explorer.Task.agreement(inputs, train=inputs, loss=nn.functional.mse_loss)
    subject = explorer.Subject(nn.Linear(4, 3).to(device), task, "net")
    assert subject.task.loss is nn.functional.mse_loss
    found = explorer.finetune(subject, explorer.Recipe().prune("*", sparsity=0.5), epochs=1, batch=8, device=device)
    assert {"agreement", "kl"} <= set(found.history[-1].after)
