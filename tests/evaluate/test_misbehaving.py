"""Models whose forward fails, or whose weights and outputs are no numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explorer.core.errors import EvaluationError, UnsupportedError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate, stream
from explorer.models.subject import Subject
from tests.contract.nets import classification, regression, tiny


class Misbehaving(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.fc, self.how = nn.Linear(6, 3), how

    def forward(self, x: Tensor) -> Any:
        if self.how == "raise":
            raise RuntimeError("no good")
        out = self.fc(x)
        if self.how == "nan":
            return torch.where(x[:, :1] > 1.5, torch.nan, out)
        return {"none": None, "tuple": (out, out), "short": out[:-1], "flat": out.flatten(), "class": out.argmax(1)}[
            self.how
        ]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "no good"),
        ("nan", "NaN"),
        ("none", "NoneType"),
        ("tuple", "tuple"),
        ("short", "(31 outputs for 32|63 outputs for 64) targets"),  # samples of the first look, by how fast it was measured to be
        ("flat", r"shape \((96|192),\)"),
        ("class", r"shape \((32|64),\)"),
    ],
)
def test_modules_that_misbehave(how: str, message: str, device: str) -> None:
    subject = tiny(Misbehaving(how), device=device)
    for _ in range(2):  # a failure is not kept as if it were an answer
        with pytest.raises(EvaluationError, match=message):
            evaluate(subject, Recipe().prune("fc", sparsity=0.5), device=device)
    with pytest.raises(EvaluationError):
        list(stream(subject, device=device))


def test_nan_names_the_sample(device: str) -> None:
    subject = tiny(Misbehaving("nan"), device=device)
    x = subject.task.dataset("validation").tensors[0]
    x[:, 0] = 0
    x[37, 0] = 2
    with pytest.raises(EvaluationError, match="tiny: the output holds NaN, first at sample 37 of validation"):
        evaluate(subject, device=device)


@pytest.mark.parametrize(("kind", "value", "refused"), [
    ("classification", torch.inf, True),
    ("classification", -torch.inf, False),  # rules a class out
    ("regression", torch.inf, True),
    ("regression", -torch.inf, True),
])  # fmt: skip
def test_infinity_names_the_sample_where_no_loss_can_be_computed(kind: str, value: float, refused: bool, device: str) -> None:
    class Setting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x[:, :1] > 1, torch.tensor([value, 0.0, 0.0], device=x.device), self.fc(x))

    task = classification((6,), n=64) if kind == "classification" else regression((6,), 3, n=64)
    x, y = task.dataset("validation").tensors
    x[:, 0] = 0
    x[37, 0] = 2
    if kind == "classification":
        y[37] = 1
    subject = Subject(Setting().to(device), task, "endless")
    if refused:
        with pytest.raises(EvaluationError, match="endless: the output holds inf, first at sample 37 of validation; accepted: finite"):
            evaluate(subject, device=device)
    else:
        assert evaluate(subject, device=device).metrics["loss"] < 100


def test_weights_that_are_not_finite(device: str) -> None:
    subject = tiny(device=device)
    with torch.no_grad():
        subject.module.fc[0].weight[1, 1] = torch.nan
    with pytest.raises(UnsupportedError, match="fc.0.weight.*NaN"):
        evaluate(subject, Recipe().prune("fc.0", sparsity=0.5), device=device)
    with pytest.raises(EvaluationError, match="NaN"):
        evaluate(subject, device=device)
